"""A participant of an election whose API server is slow, silent, or another's by now."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from acceleratedjob.errors import NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.manager import leaderelection
from acceleratedjob.manager.leaderelection import Election, LeaseLost
from acceleratedjob.manager.lease import Lease, Standing, Step, Terms
from tests.operator.lives import run
from tests.operator.talking import Answer, answering

TERMS = Terms(duration=900, deadline=600, retry=0.1)
SECONDS = 600  # against waiting for ever


def participant(link: Connection, **more: Any) -> Election:
    return Election(connection=link, namespace="red", name="it", terms=TERMS, me="me", **more)


def lease(holder: str) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": "then"}
    return {"metadata": {"name": "it", "resourceVersion": "1"}, "spec": spec}


class Leases:
    """A server of one lease."""

    def __init__(self, holder: str | None) -> None:
        self.lease = None if holder is None else lease(holder)
        self.asked: list[str] = []
        self.at: list[float] = []  # when, by the loop's clock

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
        self.at.append(asyncio.get_running_loop().time())
        if request.method in ("PUT", "POST"):
            self.lease = await request.json()
        if self.lease is None:
            return web.json_response({}, status=404)
        return web.json_response(self.lease)


class Held:
    """A connection to a server of one lease, without a socket."""

    def __init__(self) -> None:
        self.lease: Any = None
        self.asked: list[str] = []
        self.is_silent = False

    async def request(self, method: str, _path: str, body: Any = None) -> Any:
        self.asked.append(method)
        if self.is_silent:
            await asyncio.Event().wait()
        self.lease = body or self.lease
        if self.lease is None:
            raise NotFound("the lease")
        return self.lease


async def unasked(_: web.Request) -> web.Response:
    raise AssertionError("nothing is to be asked")


async def broken(_: web.Request) -> web.Response:
    return web.json_response({}, status=500)


@pytest.mark.parametrize(
    ("since_renewal", "is_over", "expected"),
    [
        pytest.param(None, False, False, id="it was never ours"),
        pytest.param(0.0, False, True, id="just renewed"),
        pytest.param(TERMS.deadline, False, False, id="not for the deadline: others think it free"),
        pytest.param(0.0, True, False, id="given back"),
    ],
)
def test_whether_a_write_may_be_sent(
    since_renewal: float | None, is_over: bool, expected: bool
) -> None:
    async def leads() -> bool:
        async with answering(unasked) as link:
            now = asyncio.get_running_loop().time()
            renewed = None if since_renewal is None else now - since_renewal
            election = participant(link, _standing=Standing(renewed=renewed), _over=is_over)
            return election.leading

    assert asyncio.run(leads()) is expected


def test_a_lease_is_held_from_when_it_was_asked_for_not_from_the_answer() -> None:
    async def claimed() -> tuple[float, float]:
        leases = Leases(None)
        async with answering(leases.answer) as link:
            election = participant(link)
            await election._ask(Step.LOOK)
            await election._ask(Step.CLAIM)
            assert leases.asked == ["GET", "POST"]
            assert election._standing.renewed is not None
            return election._standing.renewed, leases.at[-1]

    renewed, arrived = asyncio.run(claimed())
    assert renewed <= arrived


def test_a_look_that_failed_is_none_to_act_on() -> None:
    async def fresh() -> bool:
        async with answering(broken) as link:
            election = participant(link, _standing=Standing(fresh=True))
            await election._ask(Step.LOOK)
            return election._standing.fresh

    assert asyncio.run(fresh()) is False


def test_a_renewal_that_hangs_leaves_time_for_another() -> None:
    async def renewals() -> list[str]:
        link = Held()
        election = participant(link)  # type: ignore[arg-type]  # it has what is used of a connection
        running = asyncio.create_task(election.run())
        await election.won.wait()
        link.is_silent = True
        before = len(link.asked)
        with pytest.raises(LeaseLost, match=r"could not be renewed for 600 s"):
            await running
        return link.asked[before:]

    assert len(run(renewals())) > 1


@pytest.mark.parametrize(
    ("holder", "asked"),
    [
        pytest.param("me", ["GET", "PUT"], id="ours"),
        pytest.param("you", ["GET"], id="another's is left alone"),
        pytest.param(None, ["GET"], id="none"),
    ],
)
def test_what_is_given_back(
    holder: str | None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderelection, "RELEASE_SECONDS", SECONDS)

    async def released() -> Leases:
        leases = Leases(holder)
        async with asyncio.timeout(SECONDS), answering(leases.answer) as link:
            await participant(link).release()
        return leases

    leases = asyncio.run(released())
    assert leases.asked == asked
    left = Lease.of(leases.lease).holder if leases.lease else None
    assert left == ("" if holder == "me" else holder)


def test_a_server_that_says_nothing_does_not_hold_up_the_end() -> None:
    async def released(answer: Answer) -> bool:
        async with asyncio.timeout(SECONDS), answering(answer) as link:
            election = participant(link, _standing=Standing(renewed=0.0))
            await election.release()
            return election.leading

    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    assert asyncio.run(released(silent)) is False
