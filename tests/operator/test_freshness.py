"""The status says how much would be lost now, and whether a stop has enough time."""

from dataclasses import replace
from typing import Any

import pytest

from acceleratedjob.api.names import ConditionType, Manifest
from acceleratedjob.api.status import Status, has_only_trained, news
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.api.training import Checkpoint, Progress
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.progress import Progress as Answer
from acceleratedjob.planner import grace
from acceleratedjob.planner.planner import plan
from tests.attempts import env_of, pod_of
from tests.operator.builders import CONTAINER, NOW, ago, pod, spec

FRESH, SHORT = ConditionType.CHECKPOINT_FRESH, ConditionType.GRACE_TOO_SHORT
STORE = {"uri": "s3://bucket"}
UP = Status(attempt=0, size=2, phase="Running", created=2, start_time="2026-01-01T10:00:00Z")


def saved(seconds_ago: float, seconds: float | None = 2.0, tier: str = "storage") -> Checkpoint:
    return Checkpoint(step=40, tier=tier, time=format_time(ago(seconds_ago)), seconds=seconds)


def running(
    checkpoint: Checkpoint | None, up: float = 4000, step_seconds: float | None = 1.0
) -> Status:
    return replace(
        UP,
        ready_time=format_time(ago(up)),
        checkpoint=checkpoint,
        progress=Progress(attempt=0, step=50, step_seconds=step_seconds),
    )


def planned(status: Status, told: Told = Told(), **fields: Any) -> Status:  # noqa: B008  # frozen
    seen = Observed(status=status, pods=(pod(0), pod(1)), told=told, service_uid="s")
    return plan(spec(**({"checkpoint": STORE} | fields)), seen, NOW).status


@pytest.mark.parametrize(
    ("checkpoint", "cadence", "holds"),
    [
        pytest.param(saved(59), {}, ("True", "Recent"), id="continuous: a minute"),
        pytest.param(saved(119), {}, ("True", "Recent"), id="two are still fresh"),
        pytest.param(saved(120), {}, ("False", "Overdue"), id="older"),
        pytest.param(saved(500, 60.0), {}, ("True", "Recent"), id="but one takes a minute"),
        pytest.param(saved(203), {"everySeconds": 100}, ("True", "Recent"), id="by seconds"),
        pytest.param(saved(204), {"everySeconds": 100}, ("False", "Overdue"), id="too many"),
        pytest.param(saved(203), {"everySteps": 100}, ("True", "Recent"), id="by steps"),
        pytest.param(saved(204), {"everySteps": 100}, ("False", "Overdue"), id="too many steps"),
        pytest.param(saved(-600), {}, ("True", "Recent"), id="a clock of a pod that is ahead"),
        pytest.param(saved(1, tier="memory"), {}, ("False", "NoCheckpoint"), id="in memory only"),
        pytest.param(None, {}, ("False", "NoCheckpoint"), id="none"),
    ],
)
def test_whether_the_newest_checkpoint_is_fresh(
    checkpoint: Checkpoint | None, cadence: Manifest, holds: tuple[str, str]
) -> None:
    found = planned(running(checkpoint), checkpoint=STORE | cadence).condition(FRESH)
    assert found is not None
    assert (found.status, found.reason) == holds
    if holds[1] != "NoCheckpoint" and checkpoint is not None:
        assert f"of step 40, was complete at {checkpoint.time}" in found.message


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        pytest.param(running(saved(9)), {"checkpoint": None}, id="without spec.checkpoint"),
        pytest.param(replace(UP, checkpoint=saved(9)), {"replicas": 3}, id="not all pods are up"),
    ],
)
def test_nothing_is_said_of_a_job_that_writes_none(status: Status, fields: Manifest) -> None:
    status = replace(status, size=fields.get("replicas", 2), wanted=fields.get("replicas", 2))
    assert planned(status, **fields).condition(FRESH) is None


def test_an_attempt_that_goes_on_has_time_to_load_before_its_checkpoint_is_old() -> None:
    found = planned(running(saved(3000), up=30)).condition(FRESH)
    assert found is not None
    assert found.status == "True"


def test_the_condition_changes_when_it_is_due_and_only_with_what_the_training_says() -> None:
    seen = Observed(status=running(saved(100)), pods=(pod(0), pod(1)), service_uid="s")
    made = plan(spec(checkpoint=STORE), seen, NOW)
    assert made.requeue_after is not None
    assert made.requeue_after.total_seconds() == 20
    later = parse_time(format_time(NOW)) + made.requeue_after
    then = plan(spec(checkpoint=STORE), replace(seen, status=made.status), later)
    found = then.status.condition(FRESH)
    assert found is not None
    assert found.status == "False"
    assert has_only_trained(made.status, then.status)
    assert then.requeue_after is None


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        pytest.param(running(saved(9, 2.0)), 10, id="a short save, a step and a margin"),
        pytest.param(running(saved(9, 60.0)), 70, id="a long one"),
        pytest.param(running(saved(9, 2.0), step_seconds=40.0), 50, id="a long step"),
        pytest.param(running(saved(9, 2.0), step_seconds=None), 10, id="an unknown step"),
        pytest.param(running(saved(9, 1e9)), 1800, id="what nobody believes"),
        pytest.param(running(saved(9, None)), None, id="unknown"),
        pytest.param(running(saved(9, 60.0, "memory")), None, id="a save to memory"),
        pytest.param(running(None), None, id="no save"),
    ],
)
def test_the_grace_period_that_a_stop_needs(status: Status, seconds: int | None) -> None:
    assert grace.needed(status) == seconds


LONG = running(saved(9, 60.0))


def template(seconds: int | None) -> Manifest:
    given = {} if seconds is None else {"terminationGracePeriodSeconds": seconds}
    return {"spec": {"containers": [CONTAINER], **given}}


@pytest.mark.parametrize(
    ("given", "status", "seconds"),
    [
        pytest.param(None, LONG, 70, id="as much as is needed"),
        pytest.param(None, running(saved(9)), None, id="never less than Kubernetes gives"),
        pytest.param(None, Status(), None, id="nothing is known"),
        pytest.param(20, LONG, 20, id="what the template says"),
        pytest.param(0, LONG, 0, id="even none"),
        pytest.param(200, LONG, 200, id="or more"),
    ],
)
def test_the_next_attempts_pods_get_it_and_know_it(
    given: int | None, status: Status, seconds: int | None
) -> None:
    asked = spec(template=template(given))
    made = grace.raised(asked, status)
    found = pod_of(made)["spec"]
    assert found.get("terminationGracePeriodSeconds") == seconds
    env = env_of(made)
    assert env["ACCELERATEDJOB_STOP_GRACE_SECONDS"] == str(30 if seconds is None else seconds)
    assert made.fingerprints == asked.fingerprints  # else a running attempt would start again


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(None, "the pods of the next attempt have 70 s", id="Kubernetes' default"),
        pytest.param(20, "set terminationGracePeriodSeconds in spec.template to 70", id="its own"),
        pytest.param(70, None, id="enough"),
    ],
)
def test_a_grace_period_that_is_too_short_is_told_once(given: int | None, told: str | None) -> None:
    made = planned(LONG, template=template(given))
    found = made.condition(SHORT)
    assert (found and found.message.rpartition("; ")[2]) == told
    assert [one.reason for one in news(LONG, made)] == ["GraceTooShort"] * (told is not None)
    again = planned(made, template=template(given))
    assert not list(news(made, again))
    over = planned(replace(again, checkpoint=saved(9)), template=template(given))
    assert not over.holds(SHORT)


def test_the_status_takes_over_how_long_a_save_and_a_step_took() -> None:
    answer = Answer(attempt=0, step=60, step_seconds=1.5, checkpoints=(saved(1, 3.25),))
    made = planned(running(None), Told(progress=answer))
    assert made.checkpoint == saved(1, 3.25)
    assert made.progress is not None
    assert made.progress.step_seconds == 1.5
