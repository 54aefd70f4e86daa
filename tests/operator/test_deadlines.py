"""Deadlines, and what is left of a job when it is over."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from acceleratedjob.api.names import ConditionType, Manifest
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.planner.actions import DeleteJob, DeletePod
from acceleratedjob.planner.planner import decide, plan
from acceleratedjob.planner.report import failed, progress, restarting, succeeded, suspended
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS
from tests.operator.builders import NOW, ago, ended, job, pod, spec

JOB = spec()
UP = Observed(pods=(pod(0), pod(1)))
DOWN = Observed(pods=(pod(0), pod(1, node=None, ready=False)))
RUNNING = progress(JOB, UP, ago(60))
STARTING = progress(JOB, DOWN, ago(60))
FAILURE = Failure(attempt=0, replica=1, pod="p", reason="Error", time=format_time(ago(50)))
SECOND = replace(
    restarting(JOB, STARTING.with_failures(FAILURE), "", counted=True, now=ago(50)),
    failures_in_a_row=4,  # 8 s of backoff
)
SUSPENDED = suspended(JOB, RUNNING, ago(50))


def reason(status: Status) -> str | None:
    """Why a job has failed, if it has."""
    found = status.condition(ConditionType.FAILED)
    return found.reason if found else None


@pytest.mark.parametrize(
    ("fields", "observed", "status", "expected", "look_again"),
    [
        pytest.param({"activeDeadlineSeconds": 61}, UP, RUNNING, None, 1, id="in its time"),
        pytest.param(
            {"activeDeadlineSeconds": 60}, UP, RUNNING, "DeadlineExceeded", None, id="out of time"
        ),
        pytest.param(
            {"activeDeadlineSeconds": 60, "suspend": True},
            Observed(),
            SUSPENDED,
            None,
            None,
            id="no time passes while it is suspended",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 60},
            Observed(),
            SUSPENDED,
            None,
            60,
            id="nor before it goes on",
        ),
        pytest.param({"startupDeadlineSeconds": 61}, DOWN, STARTING, None, 1, id="still starting"),
        pytest.param(
            {"startupDeadlineSeconds": 60},
            DOWN,
            STARTING,
            "StartupDeadlineExceeded",
            None,
            id="not up in time",
        ),
        pytest.param(
            {"startupDeadlineSeconds": 1},
            DOWN,
            RUNNING,
            None,
            None,
            id="it was up once: it may flap",
        ),
        pytest.param(
            {"startupDeadlineSeconds": 43},
            DOWN,
            SECOND,
            None,
            1,
            id="an attempt begins when its backoff is over",
        ),
        pytest.param(
            {"startupDeadlineSeconds": 42},
            DOWN,
            SECOND,
            "StartupDeadlineExceeded",
            None,
            id="each attempt has its own time",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 9, "startupDeadlineSeconds": 9},
            DOWN,
            STARTING,
            "DeadlineExceeded",
            None,
            id="both are over: the whole life is told",
        ),
    ],
)
def test_deadlines(
    fields: Manifest,
    observed: Observed,
    status: Status,
    expected: str | None,
    look_again: int | None,
) -> None:
    pods = tuple(replace(one, attempt=status.attempt) for one in observed.pods)
    made = plan(spec(**fields), Observed(status=status, pods=pods, service_uid="s"), NOW)
    seconds = None if look_again is None else timedelta(seconds=look_again)
    assert (reason(made.status), made.requeue_after) == (expected, seconds)


def test_a_startup_deadline_tells_what_was_waited_for() -> None:
    waiting = Waiting(reason="Unschedulable", message="0/4 nodes are available")
    pods = (pod(0), pod(1, node=None, ready=False, waiting=waiting))
    made = plan(spec(startupDeadlineSeconds=5), Observed(status=STARTING, pods=pods), NOW)
    found = made.status.condition(ConditionType.FAILED)
    assert found is not None
    assert found.message == (
        "1/2 replicas of attempt 0 were up within startupDeadlineSeconds (5); "
        "1 wait, Unschedulable: 0/4 nodes are available"
    )


def test_pods_past_a_deadline_may_save_what_they_have() -> None:
    made = plan(spec(activeDeadlineSeconds=1), replace(UP, status=RUNNING), NOW)
    assert made.steps[0] == tuple(DeletePod(one.name, one.uid, None) for one in UP.pods)


COMPLETE = succeeded(JOB, RUNNING, ago(10))
FAILED = failed(JOB, RUNNING.with_failures(FAILURE), "Why", "", ago(10))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [COMPLETE, FAILED], ids=["Complete", "Failed"])
@pytest.mark.parametrize(
    ("seconds", "deleted", "look_again"), [(None, False, None), (11, False, 1), (10, True, None)]
)
def test_a_job_that_is_over_is_deleted_in_its_time(
    status: Status, seconds: int | None, deleted: bool, look_again: int | None
) -> None:
    observed = Observed(status=status, pods=(ended(0), ended(1)))
    made = plan(spec(ttlSecondsAfterFinished=seconds), observed, NOW)
    assert made.status == status
    assert made.steps == (((DeleteJob(),),) if deleted else ())
    assert made.requeue_after == (None if look_again is None else timedelta(seconds=look_again))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"suspend": True}, id="suspended"),
        pytest.param({"replicas": 9}, id="resized"),
        pytest.param({"failurePolicy": {"maxRestarts": 9}}, id="more restarts"),
        pytest.param({"activeDeadlineSeconds": 1}, id="a deadline"),
    ],
)
def test_a_job_that_is_over_stays_so(fields: Manifest) -> None:
    observed = Observed(status=FAILED, pods=(ended(0, 1),))
    assert plan(spec(**fields), observed, NOW).status == FAILED


def test_a_job_that_cannot_be_run_is_cleaned_and_deleted_as_well() -> None:
    wrong = job(replicas=0, ttlSecondsAfterFinished=30)

    def at(time: datetime, status: Status) -> list[object]:
        made = decide(wrong, Observed(status=status, pods=(pod(0),)), time)[1]
        return [one for group in made.steps for one in group]

    status = decide(wrong, Observed(), NOW)[1].status
    assert reason(status) == "InvalidSpec"
    assert at(NOW, status) == [DeletePod("digits-0-0", "u-digits-0-0", FAILED_GANG_GRACE_SECONDS)]
    assert at(NOW + timedelta(seconds=30), status) == [DeleteJob()]
