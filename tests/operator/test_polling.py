"""Jobs are asked in turn and within a budget, and only what the right pod answers is kept."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceleratedjob import metrics
from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling import asking
from acceleratedjob.controller.polling.cadence import POLLS, WRITES, Budget, Turns, due
from acceleratedjob.controller.polling.hearing import SILENT_POLLS, Hearing, Target, target
from acceleratedjob.controller.polling.poller import Poller
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.process import LOOPBACK
from acceleratedjob.observe.observed import Told
from acceleratedjob.observe.progress import NotProgressError, Progress, Verdict
from tests.operator.builders import deleting, ended, job, pod, spec
from tests.operator.clockwork import unhurried_now
from tests.operator.lives import REF, background, run
from tests.operator.node import FOREVER, Node
from tests.operator.servers import serving
from tests.operator.stages import COMPLETE, JOB, RUNNING, SECOND, SUSPENDED

MAIN = Target(pod="u-digits-0-0", attempt=0, address="10.0.0.1", port=29400)
HANG = Verdict(kind="hang", text="rank 1 hangs", rank=1)


# Who is asked, and when.


def addressed(attempt: int = 0, **facts: Any) -> Any:
    return pod(0, attempt, address="10.0.0.1", **facts)


@pytest.mark.parametrize(
    ("status", "main", "found"),
    [
        pytest.param(RUNNING, addressed(), MAIN, id="replica 0 that runs"),
        pytest.param(
            RUNNING, addressed(ready=False, running=True), MAIN, id="or that runs and is not ready"
        ),
        pytest.param(RUNNING, addressed(ready=False), None, id="not one that does not run"),
        pytest.param(RUNNING, pod(0), None, id="nor one without an address"),
        pytest.param(RUNNING, ended(0, address="10.0.0.1"), None, id="nor one that has ended"),
        pytest.param(RUNNING, deleting(0, address="10.0.0.1"), None, id="nor one that is deleted"),
        pytest.param(RUNNING, pod(1, address="10.0.0.1"), None, id="nor another replica"),
        pytest.param(SECOND, addressed(), None, id="nor one of an earlier attempt"),
        pytest.param(COMPLETE, addressed(), None, id="nor one of a job that is over"),
        pytest.param(SUSPENDED, addressed(1), None, id="nor one of a suspended job"),
    ],
)
def test_the_pod_that_is_asked_is(status: Status, main: Any, found: Target | None) -> None:
    assert target(JOB, status, [pod(1), main]) == found


def test_the_port_is_that_of_the_spec() -> None:
    found = target(spec(network={"progressPort": 3000}), RUNNING, [addressed()])
    assert found is not None
    assert found.port == 3000


def polls(jobs: int, seconds: float, tick: float = 0.2) -> dict[str, list[float]]:
    """When each of so many jobs is asked."""
    names = [f"job-{i}" for i in range(jobs)]
    last: dict[str, float] = {}
    asked: dict[str, list[float]] = {name: [] for name in names}
    for now in (tick * i for i in range(int(seconds / tick))):
        found = due(
            *(last, names, now),
            interval=POLLS.interval(jobs),
            at_most=POLLS.at_a_time(jobs, tick),
        )
        last |= dict.fromkeys(found, now)
        for name in found:
            asked[name].append(now)
    return asked


@pytest.mark.parametrize(
    ("jobs", "apart"), [(1, 5.21), (20, 5.21), (200, 5.21), (1000, 25.3)], ids=str
)
def test_each_job_is_asked_in_its_time(jobs: int, apart: float) -> None:
    asked = polls(jobs, 80)
    for times in asked.values():
        assert all(then - now <= apart for now, then in itertools.pairwise(times))
        assert times[0] <= apart
    assert sum(map(len, asked.values())) <= 80 * POLLS.per_second


@pytest.mark.parametrize(("jobs", "oldest"), [(1, 5.3), (5, 5.5), (20, 5.5), (25, 5.5)], ids=str)
def test_each_answer_of_a_few_jobs_is_written_soon(jobs: int, oldest: float) -> None:
    asked = polls(jobs, 80)
    turns = Turns()
    turns.jobs = jobs
    for now, name in sorted((time, name) for name, times in asked.items() for time in times):
        assert turns.is_due(name, now)
        wait = turns.take(name, now)
        assert wait < 0.7, "it waits for those that were asked just before"
        turns.wrote(name, now + wait)
    assert all(b - a < oldest for times in asked.values() for a, b in itertools.pairwise(times))


def test_who_was_not_asked_for_the_longest_time_comes_first() -> None:
    last = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert due(last, "abcd", 9, interval=1, at_most=3) == ["d", "b", "c"]


def writes(jobs: int, seconds: int, *, at_once: bool = False) -> list[tuple[float, str]]:
    """When jobs write that want to all the time."""
    turns, made = Turns(), []
    turns.jobs = jobs
    names = [f"job-{i}" for i in range(jobs)]
    for now in (half / 2 for half in range(2 * seconds)):
        made += [(now, n) for n in names if not turns.take(n, now, at_once=at_once)]
    return made


@pytest.mark.parametrize("at_once", [False, True], ids=["numbers", "verdicts that come and go"])
@pytest.mark.parametrize("jobs", [1, 20, 1000])
def test_writes_stay_within_the_budget_and_nobody_waits_for_ever(jobs: int, at_once: bool) -> None:
    made = writes(jobs, 320, at_once=at_once)
    for begin in range(0, 310, 5):
        assert sum(begin <= now < begin + 10 for now, _ in made) <= 10 * WRITES.per_second + 4
    assert {name for _, name in made} == {f"job-{i}" for i in range(jobs)}


def test_twenty_jobs_are_written_within_ten_seconds() -> None:
    made = writes(20, 60)
    for name in {name for _, name in made}:
        times = [now for now, who in made if who == name]
        assert max(b - a for a, b in itertools.pairwise(times)) < 10


def test_a_write_for_another_reason_counts() -> None:
    turns = Turns()
    turns.wrote("a", 10)
    assert turns.take("a", 11) == WRITES.at_least - 1
    assert turns.take("a", 11, at_once=True) == 0
    turns.forget("a")
    assert turns.is_due("a", 11)


@pytest.mark.parametrize("wrong", [{"per_second": 0}, {"at_least": -1}], ids=str)
def test_a_budget_must_allow_something(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Budget(**({"per_second": 1, "at_least": 1} | wrong))


# What is kept of answers.


def heard(*answers: Progress | None, aim: Target = MAIN) -> Told:
    """What is known after a poll each ten seconds; None is one without an answer."""
    hearing = Hearing()
    hearing.aim("a", aim)
    for i, one in enumerate(answers):
        if one is None:
            hearing.miss("a", MAIN, 10.0 * i)
        else:
            hearing.hear("a", MAIN, one, 10.0 * i)
    return hearing.told("a", 0)


FIRST, NEXT = Progress(attempt=0, step=1), Progress(attempt=0, step=2)
STUCK = Progress(attempt=0, step=2, verdicts=(HANG,))
REBORN = Progress(attempt=0, life=1, step=2, verdicts=(HANG,))


def told(progress: Progress | None, hangs: float = 0, silent: float = 0) -> Told:
    return Told(
        progress=progress, hangs_for=timedelta(seconds=hangs), silent_for=timedelta(seconds=silent)
    )


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        pytest.param((FIRST, NEXT), told(NEXT), id="the last answer"),
        pytest.param((STUCK, STUCK, STUCK), told(STUCK, hangs=20), id="since when it hangs"),
        pytest.param((FIRST, STUCK, STUCK), told(STUCK, hangs=10), id="not before"),
        pytest.param((STUCK, NEXT, STUCK), told(STUCK), id="it went on in between"),
        pytest.param((STUCK, STUCK, REBORN), told(REBORN), id="another life hangs anew"),
        pytest.param((REBORN, STUCK), told(REBORN), id="an older life says nothing"),
        pytest.param(
            (FIRST, Progress(attempt=1, step=9)), told(FIRST), id="nor does another attempt"
        ),
        pytest.param((FIRST, Progress(step=9)), told(FIRST), id="nor does none"),
        pytest.param((FIRST, None, None), told(FIRST), id="two polls are no silence"),
        pytest.param((FIRST, None, None, None), told(FIRST, silent=20), id="three are"),
        pytest.param((None, None, None), told(None, silent=20), id="also from the beginning"),
        pytest.param((None, None, None, FIRST), told(FIRST), id="until it answers"),
        pytest.param((STUCK, None), told(STUCK), id="a hang lasts until an answer that says so"),
        pytest.param((STUCK, None, STUCK), told(STUCK, hangs=20), id="a lost answer ends no hang"),
        pytest.param((STUCK, None, NEXT), told(NEXT), id="one that says something else does"),
    ],
)
def test_what_is_known_after(answers: tuple[Progress | None, ...], known: Told) -> None:
    assert heard(*answers) == known


@pytest.mark.parametrize(
    "other",
    [
        {"pod": "u-2"},
        {"attempt": 1},
        {"address": "10.0.0.2"},
    ],
    ids=str,
)
def test_nothing_of_another_pod_is_known(other: dict[str, Any]) -> None:
    changed = replace(MAIN, **other)
    hearing = Hearing()
    hearing.aim("a", MAIN)
    hearing.hear("a", MAIN, STUCK, 1)
    hearing.aim("a", changed)
    assert not hearing.hear("a", MAIN, STUCK, 2)
    hearing.miss("a", MAIN, 2)
    assert hearing.told("a", changed.attempt) == Told()
    assert hearing.told("a", 7) == Told()


@pytest.mark.parametrize(
    ("uid", "is_taken"),
    [
        pytest.param("a", True, id="the job's own"),
        pytest.param(None, True, id="of a runtime that does not say whose it is"),
        pytest.param("b", False, id="of another job in the network of the same node"),
        pytest.param("", False, id="of a training outside of any job"),
    ],
)
def test_an_answer_is_the_jobs_own(uid: str | None, *, is_taken: bool) -> None:
    hearing, told = Hearing(), replace(STUCK, uid=uid)
    hearing.aim("a", MAIN)
    for now in range(SILENT_POLLS + 1):
        assert hearing.hear("a", MAIN, told, now) == is_taken
    known = hearing.told("a", 0)
    assert known.progress == (told if is_taken else None)
    assert known.silent_for == timedelta()


def test_an_answer_ages_until_the_next_one() -> None:
    hearing = Hearing()
    hearing.aim("a", MAIN)
    assert hearing.age("a", 2) == timedelta()
    hearing.hear("a", MAIN, FIRST, 3)
    hearing.miss("a", MAIN, 8)
    assert hearing.age("a", 10) == timedelta(seconds=7)
    hearing.hear("a", MAIN, NEXT, 13)
    assert hearing.age("a", 14) == timedelta(seconds=1)


def test_if_all_jobs_become_silent_the_network_is_to_blame() -> None:
    hearing = Hearing()
    for name in "ab":
        hearing.aim(name, MAIN)
        hearing.hear(name, MAIN, FIRST, 0)
    for now in range(SILENT_POLLS + 1):
        hearing.miss("a", MAIN, now)
    assert hearing.told("a", 0).silent_for == timedelta(seconds=SILENT_POLLS)
    hearing.miss("b", MAIN, 4)
    assert hearing.told("a", 0).silent_for == timedelta()
    hearing.forget("b")
    assert hearing.told("a", 0).silent_for > timedelta()


def test_a_new_operator_that_reaches_nobody_blames_no_job() -> None:
    """Its jobs have answered before, by their status."""
    hearing = Hearing()
    for name in "ab":
        hearing.aim(name, MAIN, has_answered=True)
        for now in range(SILENT_POLLS):
            hearing.miss(name, MAIN, now)
    assert hearing.told("a", 0).silent_for == timedelta()
    hearing.hear("b", MAIN, FIRST, 4)
    assert hearing.told("a", 0).silent_for > timedelta()


# What a pod answers, whatever it is.


OK = b"HTTP/1.1 200 OK\r\n\r\n"


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that never ends, a byte at a time."""
    writer.write(OK)
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


def test_an_answer_that_drips_is_given_up_in_time() -> None:
    async def scenario() -> None:
        async with serving(drips) as port:
            with pytest.raises(TimeoutError):
                await asking.ask(LOOPBACK, port, 0.2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "begin",
    [b"HTTP/1.1 302 Found\r\nLocation: http://%b:%d/\r\n\r\n{}", b"HTTP/1.1 404 No\r\n\r\n{}", b""],
    ids=["redirected", "not found", "nothing"],
)
def test_no_redirect_is_followed_and_no_proxy_used(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(begin)

    async def scenario() -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        async with serving(answers) as port:
            with pytest.raises(NotProgressError, match="200"):
                await asking.ask(LOOPBACK, port, 600)

    asyncio.run(scenario())
    assert [one.split(b"\r\n")[0] for one in asked] == [b"GET /progress HTTP/1.0"]


@pytest.mark.parametrize(
    "address",
    [
        "localhost",
        "example.com",
        "",
        "127.1",
        "10.0.0.1:80",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104  # nothing listens
        "::",
        "224.0.0.1",
        "fe80::1%eth0",
        "10.0.0.1/24",
        "\n",
    ],
)
def test_an_address_that_is_none_of_a_pod_is_not_asked(address: str) -> None:
    with pytest.raises(NotProgressError):
        asyncio.run(asking.ask(address, 29400))


@given(st.text())
def test_any_other_text_is_no_address(text: str) -> None:
    try:
        asking.check_address(text)
    except NotProgressError:
        return
    assert all(one in "0123456789abcdefABCDEF:.%" for one in text.partition("%")[0])


# All of it, with a store in memory.


def count(result: str) -> float:
    found = metrics.REGISTRY.get_sample_value(
        "accelerated_job_progress_polls_total", {"result": result}
    )
    return found or 0.0


async def status_when(store: LocalCluster, holds: Callable[[Status], bool]) -> Status:
    async with asyncio.timeout(30):
        async for _ in store.watch(names.KIND):
            status = Status.from_manifest(await store.read(REF))
            if holds(status):
                return status
    raise AssertionError


def with_address(store: LocalCluster, name: str) -> None:
    """Give a pod its address, as its node does."""
    ref = Ref("Pod", "research", name)

    def alter(stored: Manifest) -> None:
        stored["status"]["podIP"] = LOOPBACK

    store.change(ref, alter)


FAST = Budget(per_second=50, at_least=0.01)


@asynccontextmanager
async def polled(  # noqa: C901  # what stands for a cluster, each part in a line or two
    answer: Callable[[], bytes], **fields: Any
) -> AsyncIterator[LocalCluster]:
    """A job that runs, whose pod of replica 0 gives some answer to each poll."""
    store = LocalCluster(unhurried_now)
    await store.create(job(**fields))
    controller = Controller(store, turns=Turns(FAST), now=unhurried_now)

    async def see() -> None:
        async for change in store.watch(names.KIND):
            for one in getattr(change, "objects", ()) or (getattr(change, "object", None),):
                if one is not None:
                    controller.see(one)

    async def address() -> None:
        async for change in store.watch("Pod"):
            one = getattr(change, "object", None)
            if one and "containerStatuses" in one.get("status", {}):
                is_main = one["metadata"]["name"].endswith("-0")
                if is_main and "podIP" not in one["status"]:
                    with_address(store, one["metadata"]["name"])

    async def ask(_: Target) -> bytes:
        return answer()

    poller = Poller([controller], ask=ask, budget=FAST)
    node = Node(store, lambda _attempt, _index: FOREVER)
    async with background(controller.run(), see(), address(), node.run(), poller.run()):
        yield store


def answered(**facts: Any) -> bytes:
    return json.dumps({"attempt": 0, "life": 0} | facts).encode()


def test_what_a_pod_answers_comes_into_the_status() -> None:
    async def scenario() -> Status:
        steps = iter(range(1, 10**6))
        async with polled(lambda: answered(step=next(steps), totalSteps=100)) as store:
            return await status_when(
                store, lambda status: bool(status.progress and (status.progress.step or 0) > 2)
            )

    before = count("ok")
    found = run(scenario())
    assert found.progress is not None
    assert found.progress.percent == found.progress.step
    assert count("ok") > before + 2


def unforeseen() -> bytes:
    raise ArithmeticError("what nobody has thought of")


@pytest.mark.parametrize(
    ("wrong", "result"),
    [
        pytest.param(lambda: b"[]", "invalid", id="no progress"),
        pytest.param(lambda: answered(loss=-(10**400)), "ok", id="a loss that no float can be"),
        pytest.param(unforeseen, "invalid", id="an error of our own"),
        pytest.param(lambda: answered(attempt=7, step=9), "stale", id="another attempt"),
    ],
)
def test_a_wrong_answer_is_counted_and_changes_nothing(
    wrong: Callable[[], bytes], result: str
) -> None:
    before = count(result)

    async def scenario() -> Status:
        async with polled(wrong) as store:
            async with asyncio.timeout(30):
                while count(result) < before + 3:  # noqa: ASYNC110  # nothing tells it
                    await asyncio.sleep(0.01)
            return Status.from_manifest(await store.read(REF))

    found = run(scenario())
    assert found.progress is None
    assert found.attempt == 0


def test_a_verdict_is_one_event_however_often_it_is_told() -> None:
    steps = iter(range(1, 10**6))

    def slow() -> bytes:
        return answered(
            step=next(steps), verdicts=[{"kind": "straggler", "text": "rank 0 is slow"}]
        )

    async def scenario() -> list[Manifest]:
        async with polled(slow) as store:
            await status_when(
                store, lambda status: bool(status.progress and (status.progress.step or 0) > 9)
            )
            return [one for one in store.objects("Event") if one["reason"] == "Straggler"]

    (event,) = run(scenario())
    assert event["message"] == "rank 0 is slow"


def silent() -> bytes:
    raise OSError("no answer")


def test_a_job_that_is_silent_for_too_long_begins_another_attempt() -> None:
    async def scenario() -> Status:
        async with polled(silent, stallDeadlineSeconds=1) as store:
            return await status_when(store, lambda status: status.attempt == 1)

    found = run(scenario())
    assert (found.failures[0].reason, found.restarts) == ("Stalled", 1)
