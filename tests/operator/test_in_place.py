"""Restarts in place: what the coordinator tells of lives is counted once, whoever hears it when."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.sections import MAX_IN_PLACE
from acceleratedjob.api.status import MAX_FAILURES, MAX_LIVES, Failure, Status
from acceleratedjob.controller.polling.hearing import Hearing, Target
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.observe.observed import Told
from acceleratedjob.observe.progress import LifeFailure, Progress
from acceleratedjob.observe.termination import LastWords
from acceleratedjob.planner.actions import Announce
from acceleratedjob.planner.failure_policy import backoff_end
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.state import Plan
from tests.operator.builders import NOW, ended, job, pod, spec
from tests.operator.clockwork import Clock, Fated, Operator
from tests.operator.containers import Containers
from tests.operator.lives import AT_ONCE, REF
from tests.operator.stages import FAILURE, JOB, RUNNING, seen

UP = (pod(0), pod(1))


def fell(life: int = 0, rank: int = 1, **facts: Any) -> LifeFailure:
    usual: dict[str, Any] = {"signal": 9, "time": "2026-01-01T11:59:00Z"}
    return LifeFailure(life=life, rank=rank, **(usual | facts))


def answer(life: int, *failures: LifeFailure, step: int | None = 540, attempt: int = 0) -> Progress:
    return Progress(attempt=attempt, life=life, step=step, failures=failures)


def planned(progress: Progress, status: Status = RUNNING, job: Any = JOB, pods: Any = UP) -> Plan:
    return plan(job, seen(*pods, status=status, told=Told(progress=progress)), NOW)


def events(made: Plan) -> list[str]:
    found = [step for group in made.steps for step in group if isinstance(step, Announce)]
    return [one.message for one in found if one.reason == "RestartedInPlace"]


def test_a_life_that_has_ended_is_counted_and_told_once() -> None:
    made = planned(answer(1, fell(exception="", step=530)))
    status = made.status
    assert (status.life, status.restarts_in_place, status.restarts, status.attempt) == (1, 1, 0, 0)
    assert status.failures == (
        Failure(
            attempt=0,
            life=0,
            replica=1,
            rank=1,
            pod="digits-0-1",
            node=pod(1).node,
            reason="Error",
            time="2026-01-01T11:59:00Z",
            message="was terminated by signal 9",
            exit_code=137,
            signal=9,
            step=530,
        ),
    )
    (event,) = events(made)
    assert "was terminated by signal 9, at step 530; life 1 of attempt 0 begins" in event
    again = planned(answer(1, fell(exception="", step=530)), status)
    assert (again.status, events(again)) == (status, [])


@pytest.mark.parametrize(
    ("facts", "reason", "message"),
    [
        pytest.param(
            {"signal": None, "exit_code": 1, "exception": "KeyError", "message": "'x'"},
            "Error",
            "exited with code 1: KeyError: 'x'",
            id="an exception",
        ),
        pytest.param({"signal": None, "exit_code": 3}, "Error", "exited with code 3", id="a code"),
        pytest.param(
            {"signal": None, "exit_code": 143},
            "Error",
            "stopped on request, with a checkpoint",
            id="a stop of one process",
        ),
        pytest.param(
            {"exception": "Hang", "message": "rank 1 hangs at train.py:7"},
            "Hang",
            "has stalled: rank 1 hangs at train.py:7",
            id="a hang, whose kill is no news",
        ),
    ],
)
def test_what_has_ended_a_life_is_told(facts: dict[str, Any], reason: str, message: str) -> None:
    (failure,) = planned(answer(1, fell(**facts))).status.failures
    assert (failure.reason, failure.message) == (reason, message)
    assert failure.exit_code == facts.get("exit_code")


def test_all_that_has_happened_since_the_last_answer_is_counted_the_newest_first() -> None:
    made = planned(answer(3, fell(2), fell(1, rank=0), fell(0)), replace(RUNNING, life=1))
    assert [(one.life, one.replica) for one in made.status.failures] == [(2, 1), (1, 0)]
    assert (made.status.life, made.status.restarts_in_place) == (3, 2)
    assert ["life 2 of" in events(made)[0], "life 3 of" in events(made)[1]] == [True, True]


def test_a_life_of_which_nothing_is_known_is_counted() -> None:
    made = planned(answer(2))
    assert (made.status.restarts_in_place, made.status.failures) == (2, ())
    assert events(made) == ["Lives that have begun in the pods of attempt 0: 2"]


@pytest.mark.parametrize(
    "progress",
    [
        pytest.param(answer(0, fell(0)), id="of the life that goes on"),
        pytest.param(answer(0, fell(7)), id="of a life that will be"),
        pytest.param(answer(1, fell(0), attempt=1), id="of another attempt"),
    ],
)
def test_a_failure_that_cannot_be_is_ignored(progress: Progress) -> None:
    made = planned(progress)
    assert (made.status.restarts_in_place, made.status.failures, events(made)) == (0, (), [])


@pytest.mark.parametrize(
    ("rank", "replica", "known"),
    [
        pytest.param(3, 1, 3, id="of the second pod"),
        pytest.param(4, 0, None, id="of no pod"),
    ],
)
def test_a_rank_belongs_to_a_pod(rank: int, replica: int, known: int | None) -> None:
    two = spec(replicas=2, processesPerReplica=2)
    status = replace(RUNNING, world_size=4, processes_per_replica=2, spec_hash=two.fingerprint)
    (failure,) = planned(answer(1, fell(rank=rank)), status, two).status.failures
    assert (failure.replica, failure.rank) == (replica, known)


def test_a_pod_that_lies_is_bounded() -> None:
    most: dict[str, Any] = {"signal": 2**53 - 1, "step": 2**53 - 1, "time": "9999-12-31T23:59:59Z"}
    lies = [fell(life, **most) for life in range(90, 100)]
    status = planned(answer(2**53 - 1, *lies)).status
    assert (status.life, status.restarts_in_place) == (MAX_IN_PLACE, MAX_IN_PLACE)
    assert len(status.failures) == MAX_LIVES
    assert {one.time for one in status.failures} == {"2026-01-01T12:00:00Z"}
    assert planned(answer(2**53 - 1, *lies), status).status == status
    assert Status.from_manifest({"status": status.to_manifest()}) == status


def test_lives_leave_room_for_the_ends_of_attempts() -> None:
    status = Status()
    for attempt in range(MAX_FAILURES):
        lives = [replace(FAILURE, attempt=attempt, life=life) for life in range(3)]
        status = status.with_failures(replace(FAILURE, attempt=attempt), *reversed(lives))
    assert len(status.failures) == MAX_FAILURES
    assert [one.attempt for one in status.ends] == [9, 8, 7, 6, 5]
    assert [(one.attempt, one.life) for one in status.failures if one.life is not None] == [
        *((9, life) for life in (2, 1, 0)),
        *((8, life) for life in (2, 1)),
    ]


def test_the_step_falls_with_a_life_only() -> None:
    status = planned(answer(0)).status
    for progress, step in [
        (answer(0, step=500), 540),  # it never falls within a life
        (answer(1, step=None), 540),  # the processes have not begun yet
        (answer(1, step=500), 500),
        (answer(1, step=490), 500),
        (answer(0, step=560), 500),  # a late answer of the life before
    ]:
        status = planned(progress, status).status
        assert status.progress is not None
        assert status.progress.step == step


def test_a_pod_that_is_lost_while_a_life_begins_ends_one_attempt() -> None:
    """The life is counted, and does not decide what follows."""
    old = replace(RUNNING, failures_in_a_row=0)
    made = planned(answer(1, fell(0), step=None), old, pods=(pod(0), ended(1, 1)))
    status = made.status
    assert (status.attempt, status.restarts, status.failures_in_a_row) == (1, 1, 1)
    assert (status.life, status.restarts_in_place) == (0, 1)
    assert [one.life for one in status.failures] == [None, 0]
    assert len(events(made)) == 1
    later = plan(JOB, seen(pod(0, attempt=1), pod(1, attempt=1), status=status), NOW).status
    assert (later.attempt, later.restarts, later.restarts_in_place) == (1, 1, 1)


@pytest.mark.parametrize(("life", "finished"), [(0, False), (None, True)])
def test_lives_are_no_attempts_in_a_row_that_end_in_the_same_way(
    life: int | None, finished: bool
) -> None:
    same = replace(FAILURE, life=life, exception="E", step=7)
    status = replace(RUNNING, attempt=2, failures=tuple(replace(same, attempt=n) for n in (1, 0)))
    over = ended(1, 1, attempt=2)
    assert over.ending is not None
    words = replace(over.ending, last_words=LastWords(exception="E", step=7))
    pods = (pod(0, attempt=2), replace(over, ending=words))
    assert plan(JOB, seen(*pods, status=status), NOW).status.finished == finished


def test_the_backoff_counts_from_the_end_of_the_attempt() -> None:
    status = replace(RUNNING, attempt=1, failures=(replace(FAILURE, attempt=0, life=0),))
    assert backoff_end(JOB, status) is None
    assert backoff_end(JOB, status.with_failures(replace(FAILURE, attempt=0))) is not None


def test_a_life_that_begins_is_planned_at_once_and_the_same_answer_again_in_turn() -> None:
    hearing, target = Hearing(), Target(pod="p", attempt=0, address="192.0.2.1", port=29400)
    hearing.aim("u", target)
    found = []
    for life in (0, 1, 1, 2):
        hearing.hear("u", target, answer(life), now=0.0)
        found.append(hearing.is_of_note("u"))
    assert found == [False, True, False, True]


# In a store: an operator, fake nodes, and what replica 0 answers.

PODS = 16


class Restarting(Containers):
    """A job of 16 pods that runs on fake nodes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = LocalCluster(now=self.clock.now)
        self.processes, self.done = {}, set()
        self.life, self.step, self.hangs = 0, 7, False
        manifest = job(replicas=PODS, stallDeadlineSeconds=10, failurePolicy=AT_ONCE)
        self.clock.run_until_complete(self.store.create(manifest))
        self.writes: list[str] = []
        self.operator = Operator(self.clock, Counted(self), self.ask)

    async def ask(self, target: Target) -> bytes:
        await asyncio.sleep(0)
        ended = [self.failure(life) for life in reversed(range(self.life))]
        told: Manifest = {"attempt": target.attempt, "life": self.life, "step": self.step}
        told["verdicts"] = [{"kind": "hang", "text": "rank 3 hangs"}] if self.hangs else []
        return json.dumps(told | {"failures": ended}).encode()

    def failure(self, life: int) -> Manifest:
        return {"life": life, "rank": 5, "time": "2026-01-01T12:00:00Z", "signal": 9}

    def passes(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        until = self.clock.elapsed + seconds
        while self.clock.elapsed < until:
            self.clock.elapsed += 1.0
            self.clock.tick(10)
            self.operator.hear_all()

    def begin(self) -> None:
        self.operator.hear_all()
        self.clock.tick(10 * PODS)
        self.operator.hear_all()
        for one in self.pods():
            self.starts(one, ready=True)
        self.passes(30)

    def uids(self) -> list[str]:
        return [pod["metadata"]["uid"] for pod in self.pods()]

    @property
    def status(self) -> Status:
        return Status.from_manifest(self.store.objects(names.KIND)[0])


class Counted(Fated):
    """A cluster that notes what is written."""

    def __init__(self, made: Restarting) -> None:
        super().__init__(made.store, REF)
        self.made = made

    async def _meet(self, write: Any, *, is_creation: bool = False) -> Any:
        done = await super()._meet(write, is_creation=is_creation)
        self.made.writes.append(done["kind"] if done else "nothing")
        return done


@contextmanager
def running() -> Iterator[Restarting]:
    made = Restarting()
    try:
        made.begin()
        yield made
    finally:
        made.operator.close()
        made.clock.close()


def test_a_job_of_16_pods_keeps_them_and_the_operator_writes_two_objects() -> None:
    with running() as made:
        before = made.uids()
        assert (len(before), made.status.phase) == (PODS, "Running")
        made.writes.clear()
        made.passes(30)
        usual = made.writes.copy()  # the progress, in turn
        made.writes.clear()
        made.life = 1
        made.passes(30)
        assert made.writes.count("Event") == 1
        assert len(made.writes) <= len(usual) + 2
        assert set(usual) == {names.KIND}
        assert (made.uids(), made.status.attempt) == (before, 0)
        assert (made.status.restarts_in_place, made.status.failures[0].replica) == (1, 5)


def test_a_life_is_counted_once_by_several_operators() -> None:
    with running() as made:
        for life in (1, 2, 3):
            made.life = life
            made.passes(3)
            made.operator.kill()
            made.operator.start()
            made.passes(20)
        assert made.status.restarts_in_place == 3
        assert [one.life for one in made.status.failures] == [2, 1, 0]
        told = [one["message"] for one in made.store.objects("Event")]
        assert sum("begins in the same pods" in one for one in told) == 3


def test_a_life_that_begins_is_no_stall() -> None:
    with running() as made:
        for life in (1, 2, 3):
            made.hangs = True
            made.passes(9)
            made.life, made.hangs = life, False
            made.passes(6)
        assert (made.status.attempt, made.status.stall) == (0, None)
        made.hangs = True
        made.passes(30)
        assert (made.status.attempt, made.status.failures[0].reason) == (1, "Stalled")
        assert made.status.life == 0


def test_a_hang_in_a_new_life_has_its_own_clock() -> None:
    with running() as made:
        made.hangs = True
        made.passes(9)
        made.life = 1  # at the same step
        made.passes(9)
        assert made.status.attempt == 0
        assert made.status.stall is not None
        assert made.status.stall.life == 1
