"""What a failure leads to: the job's own rules, then the default ones."""

from dataclasses import replace
from datetime import timedelta

import pytest

from acceleratedjob.api.names import ConditionType, Phase
from acceleratedjob.api.reasons import CANNOT_START
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.actions import DeletePod
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress
from tests.operator.builders import NOW, ago, deleting, ended, pod, spec

RUNNING = progress(spec(), Observed(pods=(pod(0), pod(1))), ago(60))
FAIL, FREE, COUNTED = ("Failed", 0), ("Restarting", 0), ("Restarting", 1)


def rule(action: str, **fields: object) -> dict[str, object]:
    return {"action": action, **fields}


def stopped(reason: str = "Error", *, pods: bool = False) -> Pod:
    """A pod whose training has ended because it was asked to."""
    one = ended(1, 143, reason=reason)
    assert one.ending is not None
    why = {"container_reason": "Error"} if pods else {"says_stopped": True, "stopped_at": 40}
    return replace(one, ending=replace(one.ending, **why))


def outcome(status: Status) -> tuple[str | None, int]:
    return status.phase, status.restarts


@pytest.mark.parametrize(
    ("rules", "failed", "expected"),
    [
        pytest.param([], ended(1, 1), COUNTED, id="a failure counts"),
        pytest.param([], stopped(), FREE, id="what has stopped on request, and says so, does not"),
        pytest.param([], ended(1, 143), COUNTED, id="what SIGTERM has ended, for no known reason"),
        pytest.param(
            [], stopped(reason="Evicted", pods=True), FREE, id="nor what ended with its pod"
        ),
        pytest.param([], deleting(1), FREE, id="what was deleted does not"),
        pytest.param([], ended(1, 1, disrupted="DeletionByTaint"), FREE, id="nor what is drained"),
        pytest.param([], ended(1, 128, reason="StartError"), FAIL, id="no such program"),
        pytest.param([], ended(1, 127), FAIL, id="no such command, says a shell"),
        pytest.param([], ended(1, 126), FAIL, id="no command, says a shell"),
        pytest.param(
            [rule("Restart", exitCodes=[127])], ended(1, 127), COUNTED, id="unless a rule says so"
        ),
        pytest.param([rule("Fail", exitCodes=[2, 3])], ended(1, 3), FAIL, id="its exit code"),
        pytest.param([rule("Fail", exitCodes=[2, 3])], ended(1, 4), COUNTED, id="another code"),
        pytest.param([rule("RestartFree", signals=[9])], ended(1, 137), FREE, id="its signal"),
        pytest.param([rule("Fail", signals=[9])], ended(1, 9), COUNTED, id="a code is no signal"),
        pytest.param(
            [rule("Fail", reasons=["OOMKilled"])],
            ended(1, 137, reason="OOMKilled"),
            FAIL,
            id="its reason",
        ),
        pytest.param(
            [rule("Fail", podConditions=["DisruptionTarget"])],
            ended(1, 1, disrupted="x", conditions=frozenset({"DisruptionTarget"})),
            FAIL,
            id="a rule of the job's comes before the default one",
        ),
        pytest.param(
            [rule("Restart", reasons=["PodDeleted"])], deleting(1), COUNTED, id="a deletion counts"
        ),
        pytest.param([rule("Fail", replicaIndexes=[0])], ended(1, 1), COUNTED, id="of another one"),
        pytest.param(
            [rule("Fail", exitCodes=[3], replicaIndexes=[0])],
            ended(1, 3),
            COUNTED,
            id="a rule holds only whole",
        ),
        pytest.param(
            [rule("RestartFree", exitCodes=[3]), rule("Fail", exitCodes=[3])],
            ended(1, 3),
            FREE,
            id="the first that holds is taken",
        ),
        pytest.param(
            [rule("Restart", exitCodes=[143])], ended(1, 143), COUNTED, id="a stop that counts"
        ),
    ],
)
def test_what_a_failure_leads_to(
    rules: list[object], failed: Pod, expected: tuple[str, int]
) -> None:
    job = spec(failurePolicy={"rules": rules})
    made = plan(job, Observed(status=RUNNING, pods=(pod(0), failed), service_uid="s"), NOW)
    assert outcome(made.status) == expected
    assert [failure.replica for failure in made.status.failures] == [1]


def test_a_rule_that_fails_the_job_is_named() -> None:
    job = spec(failurePolicy={"rules": [rule("Fail", signals=[1]), rule("Fail", exitCodes=[3])]})
    made = plan(job, Observed(status=RUNNING, pods=(pod(0), ended(1, 3))), NOW)
    (told,) = (c for c in made.status.conditions if c.type == ConditionType.FAILED)
    assert (told.reason, told.message) == (
        "FailurePolicy",
        "Replica 1 (pod digits-0-1 on node n0) exited with code 3 (spec.failurePolicy.rules[1])",
    )


def stuck(reason: str) -> Pod:
    waiting = Waiting(reason=reason, message="no such image")
    return pod(1, ready=False, waiting=waiting)


@pytest.mark.parametrize("reason", CANNOT_START)
def test_a_container_that_cannot_be_made_is_waited_for_and_then_fails_the_job(reason: str) -> None:
    patience = CANNOT_START[reason]
    job = spec()
    status, now = RUNNING, NOW
    if patience:
        waits = plan(job, Observed(status=status, pods=(pod(0), stuck(reason))), now)
        assert (waits.status.phase, waits.requeue_after) == (Phase.STARTING, patience)
        assert [(entry.reason, entry.since) for entry in waits.status.pending] == [
            (reason, format_time(now))
        ]
        status, now = waits.status, now + patience
    status = plan(job, Observed(status=status, pods=(pod(0), stuck(reason))), now).status
    told = next(c for c in status.conditions if c.type == ConditionType.FAILED)
    assert told.reason == "CannotStart"
    assert told.message == (
        f"Replica 1 (pod digits-0-1 on node n0) cannot start ({reason}): no such image "
        "(a restart would not help)"
    )


def test_an_image_that_cannot_be_pulled_is_told_in_two_words_by_turns() -> None:
    """The kubelet's time between two tries does not begin the job's anew."""
    status = RUNNING
    for turn, reason in enumerate(["ErrImagePull", "ImagePullBackOff"] * 3):
        now = NOW + timedelta(seconds=10 * turn)
        made = plan(spec(), Observed(status=status, pods=(pod(0), stuck(reason))), now)
        assert made.requeue_after == timedelta(seconds=60 - 10 * turn)
        status = made.status
    now = NOW + timedelta(seconds=60)
    made = plan(spec(), Observed(status=status, pods=(pod(0), stuck("ErrImagePull"))), now)
    assert made.status.phase == Phase.FAILED


def test_a_rule_of_the_jobs_restarts_what_cannot_start() -> None:
    job = spec(failurePolicy={"rules": [rule("Restart", reasons=["ErrImageNeverPull"])]})
    made = plan(job, Observed(status=RUNNING, pods=(pod(0), stuck("ErrImageNeverPull"))), NOW)
    assert outcome(made.status) == COUNTED


@pytest.mark.parametrize(
    ("up_seconds", "before", "in_a_row"),
    [
        pytest.param(None, 4, 5, id="it was never up: one more in a row"),
        pytest.param(300, 4, 5, id="it was up, but not longer than the longest wait"),
        pytest.param(301, 4, 1, id="it was up for longer: a new row begins"),
    ],
)
def test_the_backoff_is_reset_by_an_attempt_that_was_up(
    up_seconds: int | None, before: int, in_a_row: int
) -> None:
    ready = None if up_seconds is None else format_time(ago(up_seconds))
    status = replace(RUNNING, ready_time=ready, failures_in_a_row=before)
    made = plan(spec(), Observed(status=status, pods=(pod(0), ended(1, 1))), NOW)
    assert made.status.failures_in_a_row == in_a_row
    waits = plan(spec(), Observed(status=made.status, service_uid="s"), NOW)
    assert waits.requeue_after == timedelta(seconds=2 ** (in_a_row - 1))


@pytest.mark.parametrize(
    ("failed", "grace"),
    [
        pytest.param(ended(1, 1), 5, id="it failed: the others hang"),
        pytest.param(ended(1, 137, disrupted="DeletionByTaintManager"), 5, id="its node is lost"),
        pytest.param(
            deleting(1, disrupted="DeletionByTaintManager"),
            None,
            id="its node may live, and a lost one is waited for longer: all may save",
        ),
        pytest.param(
            deleting(1, disrupted="PreemptionByScheduler"), None, id="it is preempted: all may save"
        ),
        pytest.param(deleting(1), None, id="it is deleted: all may save"),
        pytest.param(ended(1, 143), None, id="it was asked to stop, and has saved"),
    ],
)
def test_survivors_have_time_to_save_what_they_can(failed: Pod, grace: int | None) -> None:
    made = plan(spec(), Observed(status=RUNNING, pods=(pod(0), failed)), NOW)
    graces = [one.grace_seconds for one in made.steps[0] if isinstance(one, DeletePod)]
    assert set(graces) == {grace}
    # Killed after the status was written, the next operator gives the same time.
    late = plan(spec(), Observed(status=made.status, pods=(pod(0),)), NOW)
    graces = [one.grace_seconds for one in late.steps[0] if isinstance(one, DeletePod)]
    assert graces == [grace]


def test_a_node_whose_clock_is_ahead_does_not_lengthen_the_wait() -> None:
    made = plan(spec(), Observed(status=RUNNING, pods=(pod(0), ended(1, 1, seconds_ago=-600))), NOW)
    assert made.status.failures[0].time == format_time(NOW)
    waits = plan(spec(), Observed(status=made.status, service_uid="s"), NOW)
    assert waits.requeue_after == timedelta(seconds=1)


def test_free_restarts_are_paced_as_well() -> None:
    status = replace(RUNNING, ready_time=None, failures_in_a_row=3)
    made = plan(spec(), Observed(status=status, pods=(pod(0), deleting(1))), NOW)
    assert (made.status.restarts, made.status.failures_in_a_row) == (0, 4)


def test_pods_whose_scripts_stop_because_another_one_is_drained_are_not_done() -> None:
    """Scripts that leave their loop by `should_stop` end with 0, which is read as 143."""
    drained = ended(1, 143, disrupted="DeletionByTaint", disrupted_at=ago(5))
    other = ended(0, 143)
    assert other.ending is not None
    other = replace(other, ending=replace(other.ending, says_stopped=True))
    planned = plan(spec(), Observed(status=RUNNING, pods=(other, drained)), NOW)
    assert outcome(planned.status) == FREE
    assert planned.status.failures[-1].replica == 1
