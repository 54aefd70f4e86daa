"""How many replicas an attempt has: scaled, shrunk, and whole again; and what suspension leaves."""

from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api.names import ConditionType, Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import CreatePod, DeletePod
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from acceleratedjob.planner.state import UNSCHEDULABLE_PATIENCE, Plan
from tests.operator.builders import NOW, ended, pod, spec

ELASTIC: Manifest = {"elastic": {"minReplicas": 2, "maxReplicas": 8}}
FOUR = spec(replicas=4, **ELASTIC)


def waiting(index: int, attempt: int = 0, reason: str = "Unschedulable") -> Pod:
    return pod(index, attempt, node=None, ready=False, waiting=Waiting(reason=reason, message="no"))


def seen(status: Status, *pods: Pod) -> Observed:
    return Observed(status=status, pods=pods, service_uid="s")


def size(made: Plan) -> tuple[int | None, int, int]:
    return made.status.size, made.status.resizes, made.status.attempt


def created(made: Plan) -> list[object]:
    return [one for group in made.steps for one in group if isinstance(one, CreatePod)]


UP = tuple(pod(index) for index in range(4))
RUNNING = progress(FOUR, Observed(pods=UP), NOW)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"replicas": 4} | ELASTIC, (4, 0, 0), id="as it is"),
        pytest.param({"replicas": 6} | ELASTIC, (6, 1, 1), id="grown"),
        pytest.param({"replicas": 2} | ELASTIC, (2, 1, 1), id="shrunk"),
        pytest.param({"replicas": 5}, (5, 1, 1), id="changed in a suspension that nobody saw"),
    ],
)
def test_another_number_of_replicas_is_a_new_attempt(
    fields: Manifest, expected: tuple[int, int, int]
) -> None:
    made = plan(spec(**fields), seen(RUNNING, *UP), NOW)
    assert size(made) == expected
    assert made.status.restarts == 0
    if expected[1]:
        assert made.status.phase == "Resizing"
        assert made.steps[0] == tuple(DeletePod(one.name, one.uid, None) for one in UP)
        after = plan(spec(**fields), seen(made.status), NOW)
        assert created(after) == [CreatePod(1, index) for index in range(expected[0])]
        assert (size(after), after.status.phase) == (expected, "Resizing")


@pytest.mark.parametrize(
    ("placed", "seconds", "expected"),
    [
        pytest.param(3, 59, 4, id="they may yet find one"),
        pytest.param(3, 60, 3, id="one found none: the others go on"),
        pytest.param(2, 60, 2, id="as few as are of use"),
        pytest.param(1, 60, 4, id="too few: wait on"),
        pytest.param(4, 60, 4, id="all have found one meanwhile"),
    ],
)
def test_an_elastic_job_goes_on_with_the_nodes_that_it_gets(
    placed: int, seconds: int, expected: int
) -> None:
    first = plan(FOUR, seen(RUNNING, *UP[:3], waiting(3)), NOW)
    assert first.requeue_after == UNSCHEDULABLE_PATIENCE
    pods = (*UP[:placed], *(waiting(index) for index in range(placed, 4)))
    made = plan(FOUR, seen(first.status, *pods), NOW + timedelta(seconds=seconds))
    assert made.status.size == expected
    if expected == 3:
        ready = made.status.condition(ConditionType.READY)
        assert ready is not None
        assert (
            ready.message == "From 4 to 3 replicas: the other pods were not scheduled within 60 s"
        )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"replicas": 4}, "Unschedulable", id="a job of a fixed size"),
        pytest.param({"replicas": 4} | ELASTIC, "SchedulingGated", id="in a queue"),
    ],
)
def test_others_wait_for_all_their_nodes(fields: Manifest, reason: str) -> None:
    job = spec(**fields)
    pods = (*UP[:3], waiting(3, reason=reason))
    first = plan(job, seen(RUNNING, *pods), NOW)
    made = plan(job, seen(first.status, *pods), NOW + timedelta(hours=1))
    assert (size(made), first.requeue_after) == ((4, 0, 0), None)


def shrunk() -> Status:
    """The status of a job that wanted four replicas and runs with three."""
    late = NOW + UNSCHEDULABLE_PATIENCE
    pods = (*UP[:3], waiting(3))
    first = plan(FOUR, seen(RUNNING, *pods), NOW)
    second = plan(FOUR, seen(first.status, *pods), late)
    return plan(FOUR, seen(second.status, *(pod(i, 1) for i in range(3))), late).status


def test_a_shrunk_job_runs_on_until_something_ends_its_attempt() -> None:
    status = shrunk()
    assert (status.phase, status.ready_ratio, status.size, status.wanted) == (
        "Running",
        "3/3",
        3,
        4,
    )
    three = tuple(pod(index, 1) for index in range(3))
    later = NOW + timedelta(days=1)
    assert plan(FOUR, seen(status, *three), later).status == status
    done = tuple(ended(index, 0, 1) for index in range(3))
    assert plan(FOUR, seen(status, *done), later).status.phase == "Succeeded"
    failed = plan(FOUR, seen(status, *three[:2], ended(2, 1, 1)), later)
    assert (size(failed), failed.status.phase) == ((4, 1, 2), "Restarting")
    suspended = plan(replace(FOUR, suspend=True), seen(status, *three), later)
    resumed = plan(FOUR, seen(suspended.status), later)
    assert size(resumed) == (4, 1, 2)
    grown = plan(replace(FOUR, replicas=5), seen(status, *three), later)
    assert size(grown) == (5, 2, 2)


def test_the_size_that_it_has_is_no_reason_to_begin_anew() -> None:
    three = tuple(pod(index, 1) for index in range(3))
    made = plan(replace(FOUR, replicas=3), seen(shrunk(), *three), NOW)
    assert (size(made), made.status.wanted) == ((3, 1, 1), 3)


def test_pods_that_stop_are_counted_until_they_have() -> None:
    job = replace(FOUR, suspend=True)
    stopping = plan(job, seen(RUNNING, *UP), NOW).status
    assert (stopping.phase, stopping.terminating, stopping.replicas) == ("Suspended", 4, 0)
    pods = (ended(0), *UP[1:3])
    assert plan(job, seen(stopping, *pods), NOW).status.terminating == 2
    left = plan(job, seen(stopping), NOW).status
    assert (left.terminating, left.attempt) == (0, 1)
    again = plan(FOUR, seen(stopping, *UP[:1]), NOW).status
    assert (again.terminating, again.phase, again.attempt) == (1, "Pending", 1)
