import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from acceleratedjob.errors import Unavailable
from acceleratedjob.kube.client import connect
from acceleratedjob.kube.limits import Limit
from acceleratedjob.kube.ratelimit import TRIES, Pace


@pytest.mark.parametrize(
    ("limit", "arrivals", "begins"),
    [
        pytest.param(Limit(per_second=2, burst=1), [0, 0, 0], [0, 0.5, 1], id="no burst"),
        pytest.param(Limit(per_second=2, burst=3), [0] * 5, [0, 0, 0, 0.5, 1], id="a burst"),
        pytest.param(
            Limit(per_second=2, burst=2), [0, 0, 0, 9, 9, 9], [0, 0, 0.5, 9, 9, 9.5], id="a rest"
        ),
        pytest.param(Limit(per_second=2, burst=1), [0, 0.2, 3], [0, 0.5, 3], id="a late one"),
    ],
)
def test_when_requests_may_go(limit: Limit, arrivals: list[float], begins: list[float]) -> None:
    due, found = 0.0, []
    for now in arrivals:
        begin, due = limit.after(due, now)
        found.append(begin)
    assert found == pytest.approx(begins)


@pytest.mark.parametrize("limit", [{"per_second": 0}, {"burst": 0}, {"in_flight": -1}], ids=str)
def test_a_limit_that_lets_nothing_through_is_refused(limit: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Limit(**limit)


def test_no_more_than_so_many_are_side_by_side() -> None:
    async def scenario() -> int:
        pace = Pace(Limit(in_flight=3))
        inside, most = 0, 0

        async def one() -> None:
            nonlocal inside, most
            async with pace.turn():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(scenario()) == 3


def test_none_goes_before_the_server_has_time_again() -> None:
    async def scenario() -> list[float]:
        pace, begun = Pace(), []
        closed = pace.clock() + 0.1
        pace.hold(0.1)
        for _ in range(3):
            async with pace.turn():
                begun.append(pace.clock() - closed)
        return begun

    assert min(asyncio.run(scenario())) >= 0


def test_a_shorter_wait_does_not_open_what_a_longer_one_has_closed() -> None:
    now = 100.0
    pace = Pace(clock=lambda: now)
    pace.hold(9)
    pace.hold(1)
    assert pace._closed_until == 109


def test_who_waits_already_waits_longer_when_the_server_asks_for_it() -> None:
    async def scenario() -> float:
        pace = Pace(Limit(per_second=10, burst=1))
        async with pace.turn():
            pass
        waiting = asyncio.create_task(pace._until(pace.clock() + 0.1))
        await asyncio.sleep(0)  # it waits
        closed = pace.clock() + 0.3
        pace.hold(0.3)
        await waiting
        return pace.clock() - closed

    assert asyncio.run(scenario()) >= 0


@asynccontextmanager
async def server(refusals: int, headers: dict[str, str]) -> AsyncIterator[tuple[str, list[int]]]:
    """Answers 429 so often, then 200; where it is, and what it has answered."""
    answered: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        status = 429 if len(answered) < refusals else 200
        answered.append(status)
        return web.json_response({}, status=status, headers=headers if status == 429 else {})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", answered
    finally:
        await runner.cleanup()


async def ask(refusals: int, headers: dict[str, str], *, clock: Iterator[int]) -> list[int]:
    """What a server was made to answer for one request."""
    async with server(refusals, headers) as (host, answered):
        configuration = Configuration()
        configuration.host = host
        async with connect(configuration) as link:
            link.pace.clock = clock.__next__  # ten seconds pass between two looks at it
            try:
                await link.request("GET", "/")
            except Unavailable:
                assert answered[-1] == 429
        return answered


@pytest.mark.parametrize(
    ("refusals", "headers", "answers"),
    [
        pytest.param(2, {"Retry-After": "1"}, [429, 429, 200], id="it comes again"),
        pytest.param(99, {"Retry-After": "1"}, [429] * TRIES, id="and not for ever"),
        pytest.param(1, {}, [429], id="without a time it is the caller's to try again"),
    ],
)
def test_a_request_that_is_told_to_come_later_comes_later(
    refusals: int, headers: dict[str, str], answers: list[int]
) -> None:
    assert asyncio.run(ask(refusals, headers, clock=itertools.count(step=10))) == answers
