"""What a job's status tells: counts, times, the first cause of each failure."""

from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api.names import ConditionType
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed, Refusal
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from tests.operator.builders import NOW, UID, ago, deleting, ended, pod, spec
from tests.operator.stages import (
    FAILURE,
    JOB,
    SECOND,
    seen,
)

WAITING = Waiting(reason="Unschedulable", message="no node")


@pytest.mark.parametrize(
    ("observed", "attempt", "restarts"),
    [
        pytest.param(seen(pod(0), ended(1, 1)), 1, 1, id="a failure counts"),
        pytest.param(seen(pod(0), deleting(1)), 1, 0, id="a deletion does not"),
        pytest.param(
            seen(pod(0), ended(1, 143, disrupted="PreemptionByScheduler")),
            1,
            0,
            id="a preemption does not, though its process dies of a signal",
        ),
        pytest.param(
            seen(ended(0, 1), ended(1, 137, attempt=0), status=SECOND),
            1,
            1,
            id="failures of an old attempt are history",
        ),
    ],
)
def test_what_a_restart_counts(observed: Observed, attempt: int, restarts: int) -> None:
    status = plan(JOB, observed, NOW).status
    assert (status.attempt, status.restarts) == (attempt, restarts)


@pytest.mark.parametrize(
    ("pods", "replica"),
    [
        pytest.param(
            [ended(0, 1, seconds_ago=5), ended(1, 1, seconds_ago=9)], 1, id="the earliest"
        ),
        pytest.param([ended(0, 1), ended(1, 137)], 1, id="in one second, the one that was killed"),
        pytest.param(
            [ended(0, 1), ended(1, 1, disrupted="NodeLost")],
            1,
            id="in one second, the one that was taken away",
        ),
        pytest.param([ended(1, 1), ended(0, 1)], 0, id="all alike: the lowest replica"),
    ],
)
def test_the_first_cause_is_named(pods: list[Pod], replica: int) -> None:
    failures = plan(JOB, seen(*pods), NOW).status.failures
    assert [failure.replica for failure in failures] == [replica]


def test_a_failure_is_told_in_full() -> None:
    pods = (pod(0), ended(1, 137, reason="OOMKilled", seconds_ago=3))
    status = plan(spec(failurePolicy={"maxRestarts": 0}), seen(*pods), NOW).status
    assert status.failures == (
        Failure(
            attempt=0,
            replica=1,
            rank=1,
            pod="digits-0-1",
            node="n0",
            exit_code=137,
            signal=9,
            reason="OOMKilled",
            message="was terminated by signal 9 (OOMKilled)",
            time=format_time(ago(3)),
        ),
    )
    told = next(c for c in status.conditions if c.type == ConditionType.FAILED)
    assert told.message == (
        "Replica 1 (pod digits-0-1 on node n0) was terminated by signal 9 (OOMKilled); "
        "maxRestarts is 0"
    )


@pytest.mark.parametrize(
    ("pods", "lost", "expected"),
    [
        pytest.param([ended(0), pod(1)], [], (1, 0), id="one is done"),
        pytest.param([pod(1)], [ended(0)], (1, 0), id="one is done, and its pod was deleted"),
        pytest.param([ended(1, 1)], [ended(0)], (1, 1), id="and another has failed"),
    ],
)
def test_pods_that_have_ended_are_counted(
    pods: list[Pod], lost: list[Pod], expected: tuple[int, int]
) -> None:
    status = progress(JOB, seen(*pods, lost=tuple(lost)), NOW)
    assert (status.succeeded, status.failed) == expected
    assert Status.from_manifest({"status": status.to_manifest()}) == status


@pytest.mark.parametrize(
    "stray",
    [
        pytest.param({"pods": (pod(9),)}, id="that is ready makes no gang complete"),
        pytest.param({"pods": (ended(9, 1),)}, id="that has failed ends no attempt"),
        pytest.param({"pods": (ended(9),)}, id="that has ended with 0 is no finished replica"),
        pytest.param({"pods": (deleting(9),)}, id="that is deleted ends no attempt"),
        pytest.param({"lost": (pod(9),)}, id="that is gone ends no attempt"),
        pytest.param({"lost": (ended(9),)}, id="that is gone after a success has finished nothing"),
        pytest.param(
            {"pods": (pod(9, node=None, waiting=WAITING),)}, id="that waits is nothing to wait for"
        ),
    ],
)
def test_a_pod_beyond_the_replicas(stray: dict[str, tuple[Pod, ...]]) -> None:
    replicas = (pod(0), pod(1, ready=False))
    without = plan(JOB, seen(*replicas), NOW).status
    pods, lost = stray.get("pods", ()), stray.get("lost", ())
    status = plan(JOB, seen(*replicas, *pods, lost=lost), NOW).status
    going = sum(one.ending is None for one in pods)
    assert status == replace(without, terminating=going)
    assert (status.attempt, status.ready_ratio) == (0, "1/2")


def test_what_is_told_of_an_attempt_that_starts() -> None:
    status = plan(
        spec(processesPerReplica=4), seen(pod(0), pod(1, ready=False), status=Status()), NOW
    ).status
    assert (status.ready_ratio, status.replicas, status.ready) == ("1/2", 2, 1)
    assert (status.world_size, status.processes_per_replica) == (8, 4)
    assert status.observed_generation == 1
    job = f"accelerated.dev/job-name=digits,accelerated.dev/job-uid={UID}"
    assert status.selector == f"{job},accelerated.dev/attempt=0"
    told = {c.type: (c.status, c.reason, c.message) for c in status.conditions}
    assert told == {
        "Scheduled": ("True", "AllScheduled", "2 of 2 pods have a node"),
        "Ready": ("False", "WaitingForReplicas", "1 of 2 replicas are ready or have succeeded"),
    }


def test_the_times_of_a_job() -> None:
    done = plan(JOB, seen(ended(0), ended(1)), NOW).status
    up = format_time(ago(60))
    assert (done.start_time, done.ready_time, done.completion_time) == (up, up, format_time(NOW))


def test_the_newest_ten_failures_are_kept() -> None:
    status = Status()
    for attempt in range(12):
        status = status.with_failures(replace(FAILURE, attempt=attempt))
    assert [failure.attempt for failure in status.failures] == [*range(11, 1, -1)]


def test_the_next_try_is_one_time_for_as_long_as_it_is_waited_for() -> None:
    """It is counted by another clock than the one that tells it."""
    status = Status()
    told = []
    for passed, left in ((0, 8.4), (3, 5.1), (8, 0.2), (8.4, 0), (9, 16)):
        refusal = Refusal(message="quota", final=False, retry_in=timedelta(seconds=left))
        seen = Observed(status=status, refusal=refusal)
        status = progress(spec(), seen, NOW + timedelta(seconds=passed))
        told.append(status.pending[0].next_try)
    assert told == [*[format_time(NOW + timedelta(seconds=8))] * 4, format_time(ago(-25))]
