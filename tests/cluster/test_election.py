"""Participants of an election, against a real API server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from acceleratedjob.kube.client import Connection
from acceleratedjob.manager.leaderelection import Election, LeaseLost
from acceleratedjob.manager.lease import Terms
from tests.cluster.operators import connection

pytestmark = pytest.mark.cluster

TERMS = Terms(duration=600, deadline=500, retry=0.1)
SECONDS = 240  # for what takes one
Case = Callable[[Connection, str], Awaitable[None]]


@pytest.fixture
def holds(kubeconfig: Path, namespace: str) -> Callable[[Case], None]:
    """Run a case with a connection and a namespace."""

    async def connected(case: Case) -> None:
        async with asyncio.timeout(SECONDS), connection(kubeconfig) as link:
            await case(link, namespace)

    return lambda case: asyncio.run(connected(case))


def participant(link: Connection, namespace: str, me: str = "me") -> Election:
    return Election(connection=link, namespace=namespace, name="it", terms=TERMS, me=me)


@contextlib.asynccontextmanager
async def taking_part(*elections: Election) -> AsyncIterator[list[asyncio.Task[NoReturn]]]:
    tasks = [asyncio.create_task(each.run()) for each in elections]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def path(namespace: str, *name: str) -> str:
    return "/".join((f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", *name))


async def stored(link: Connection, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = await link.request("GET", path(namespace, "it"))
    return found


async def change(link: Connection, namespace: str, **fields: Any) -> None:
    merge = "application/merge-patch+json"
    await link.request("PATCH", path(namespace, "it"), fields, content_type=merge)


def test_one_wins_and_the_other_when_it_is_given_back(holds: Callable[[Case], None]) -> None:
    async def case(link: Connection, namespace: str) -> None:
        both = [participant(link, namespace, me) for me in ("me", "you")]
        async with taking_part(*both) as tasks:
            done, _ = await asyncio.wait(
                [asyncio.create_task(each.won.wait()) for each in both],
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert len(done) == 1
            (winner,) = (each for each in both if each.leading)
            (other,) = (each for each in both if each is not winner)
            assert (await stored(link, namespace))["spec"]["holderIdentity"] == winner.me
            tasks[both.index(winner)].cancel()
            await winner.release()
            await other.won.wait()
            assert (winner.leading, other.leading) == (False, True)
            assert (await stored(link, namespace))["spec"]["leaseTransitions"] == 1

    holds(case)


def test_a_renewal_keeps_what_others_have_written_on_the_lease(
    holds: Callable[[Case], None],
) -> None:
    async def case(link: Connection, namespace: str) -> None:
        election = participant(link, namespace)
        async with taking_part(election):
            await election.won.wait()
            await change(link, namespace, metadata={"labels": {"team": "seven"}})
            first = await stored(link, namespace)
            while (found := await stored(link, namespace))["spec"] == first["spec"]:  # noqa: ASYNC110  # another's state
                await asyncio.sleep(0.05)
            assert found["metadata"]["labels"] == {"team": "seven"}
            assert found["spec"]["acquireTime"] == first["spec"]["acquireTime"]
            assert election.leading

    holds(case)


def test_a_lease_that_was_deleted_is_made_again(holds: Callable[[Case], None]) -> None:
    async def case(link: Connection, namespace: str) -> None:
        election = participant(link, namespace)
        async with taking_part(election):
            await election.won.wait()
            await link.request("DELETE", path(namespace, "it"))
            found: list[Any] = []
            while not found:
                found = (await link.request("GET", path(namespace)))["items"]
            assert found[0]["spec"]["holderIdentity"] == "me"
            assert election.leading

    holds(case)


def test_a_leader_that_reads_anothers_name_stops(holds: Callable[[Case], None]) -> None:
    async def case(link: Connection, namespace: str) -> None:
        election = participant(link, namespace)
        async with taking_part(election) as (task,):
            await election.won.wait()
            await change(link, namespace, spec={"holderIdentity": "you"})
            with pytest.raises(LeaseLost, match="it is held by you"):
                await task
        await election.release()
        assert (await stored(link, namespace))["spec"]["holderIdentity"] == "you"

    holds(case)


@pytest.mark.parametrize("known", [True, False], ids=["a renewal", "the first claim"])
def test_a_claim_whose_answer_was_not_waited_for_is_given_back_too(
    holds: Callable[[Case], None], known: bool
) -> None:
    async def case(link: Connection, namespace: str) -> None:
        first = participant(link, namespace)
        async with taking_part(first):
            await first.won.wait()
        await change(link, namespace, spec={"renewTime": "2026-01-02T03:04:05.000000Z"})
        await (first if known else participant(link, namespace)).release()
        assert (await stored(link, namespace))["spec"]["holderIdentity"] == ""

    holds(case)
