"""What is sent to an API server, and what is not."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from acceleratedjob.api import names
from acceleratedjob.cluster import Ref
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.errors import ClusterError, NotFound, Unavailable
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.limits import Limit
from acceleratedjob.kube.ratelimit import Pace
from acceleratedjob.manager.jobs import TOKEN_LIFE, Handlers
from tests.operator.builders import job
from tests.operator.talking import answering

POD, JOB = Ref("Pod", "red", "one"), Ref(names.KIND, "red", "one")
Write = Callable[[KubernetesCluster], Awaitable[object]]
Sent = list[tuple[str, Any]]  # a request's method and body


def create(cluster: KubernetesCluster) -> Awaitable[object]:
    return cluster.create(job())


def delete(cluster: KubernetesCluster) -> Awaitable[object]:
    return cluster.delete(POD, uid="mine", grace_seconds=3)


def status(cluster: KubernetesCluster) -> Awaitable[object]:
    return cluster.write_status(JOB, {"phase": "Running"}, uid="mine", resource_version="7")


async def sent(write: Write, *, uid: str = "mine", leads: bool = True) -> Sent | ClusterError:
    """What a write sends, or what it ends in; the object that is there has a uid."""
    asked: Sent = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, await request.json()))
        return web.json_response({"metadata": {"uid": uid}})

    async with answering(answer) as link:
        try:
            await write(KubernetesCluster(link, "red", may_write=lambda: leads))
        except ClusterError as error:
            assert leads or not asked
            return error
    return asked


@pytest.mark.parametrize("write", [create, delete, status])
def test_without_the_lease_nothing_is_sent(write: Write) -> None:
    assert isinstance(asyncio.run(sent(write, leads=False)), Unavailable)


@pytest.mark.parametrize(
    ("first", "answers"),
    [
        pytest.param(200, 1, id="a write that waits for its turn"),
        pytest.param(429, 1, id="a write that is to be sent again"),
    ],
)
def test_no_write_is_sent_after_the_lease_is_lost(first: int, answers: int) -> None:
    leads, asked = True, 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal leads, asked
        asked, leads = asked + 1, False  # the lease runs out while the first one is answered
        headers = {"Retry-After": "0"} if first == 200 else {"Retry-After": "1"}
        return web.json_response({"metadata": {"uid": "mine"}}, status=first, headers=headers)

    async def go() -> list[object]:
        async with answering(answer) as link:
            one = replace(link, pace=Pace(Limit(in_flight=1)))
            cluster = KubernetesCluster(one, "red", may_write=lambda: leads)
            return await asyncio.gather(
                *(write(cluster) for write in (create, delete, status)), return_exceptions=True
            )

    ended = asyncio.run(go())
    assert asked == answers
    refused = [error for error in ended if isinstance(error, Unavailable)]
    assert len(refused) == (2 if first == 200 else 3)
    assert all("does not hold the lease" in str(error) for error in refused)


def test_a_deletion_names_the_uid_that_is_meant() -> None:
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": "mine"},
        "propagationPolicy": "Background",
        "gracePeriodSeconds": 3,
    }
    assert asyncio.run(sent(delete)) == [("DELETE", options)]


def test_a_status_is_written_over_the_version_that_it_was_made_from() -> None:
    patch = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/status", "value": {"phase": "Running"}},
    ]
    assert asyncio.run(sent(status)) == [("PATCH", patch)]
    assert isinstance(asyncio.run(sent(status, uid="another")), NotFound)


@pytest.mark.parametrize("token", ["abc", ""], ids=["a token", "a certificate"])
def test_kopf_is_given_a_token_for_no_longer_than_it_is_sure_to_be_good(token: str) -> None:
    async def expiration() -> datetime | None:
        configuration = Configuration()
        if token:
            configuration.api_key["BearerToken"] = f"Bearer {token}"
        session = await Handlers(configuration, {}, Pulse(())).log_in()
        headers = session.aiohttp_session.headers
        await session.aiohttp_session.close()
        assert headers.get("Authorization") == (f"Bearer {token}" if token else None)
        return session.expiration

    found = asyncio.run(expiration())
    if token:
        assert found is not None
        left = found - datetime.now(UTC)
        assert timedelta() < left <= TOKEN_LIFE
    else:
        assert found is None


@pytest.mark.parametrize(
    ("query", "status", "is_complete"),
    [
        pytest.param("", 200, False, id="a list may have more pages"),
        pytest.param("?watch=true", 200, True, id="a watch begins when all is listed"),
        pytest.param("?watch=true", 403, False, id="one that is refused does not"),
    ],
)
def test_kopf_has_listed_all_when_its_watch_begins(
    query: str, status: int, is_complete: bool
) -> None:
    async def unlisted() -> list[str]:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({}, status=status)

        async with answering(answer) as link:
            pulse = Pulse(("/jobs",))
            made = await Handlers(link.configuration, {}, pulse).log_in()
            async with made.aiohttp_session as session:
                await (await session.get(f"{made.server}/jobs{query}")).read()
            return pulse.unlisted

    assert asyncio.run(unlisted()) == ([] if is_complete else ["/jobs"])


def test_kopf_does_not_ask_again_at_once_where_it_is_not_known() -> None:
    async def waits() -> list[float]:
        codes = iter((401, 401, 200, 401))

        async def answer(_: web.Request) -> web.Response:
            return web.json_response({}, status=next(codes))

        async with answering(answer) as link:
            handlers = Handlers(
                link.configuration, {}, Pulse(()), unknown=Backoff(initial=0.01, maximum=1)
            )
            made = await handlers.log_in()
            found = []
            async with made.aiohttp_session as session:
                for _ in range(4):
                    await (await session.get(f"{made.server}/jobs")).read()
                    found.append(handlers.unknown.next("/jobs"))
            return found

    # Each look at the next wait counts as one more error.
    assert asyncio.run(waits()) == [0.02, 0.08, 0.01, 0.04]
