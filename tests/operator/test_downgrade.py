"""An operator that finds what a newer one has written: it goes on with what it knows."""

from typing import Any

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.api.times import format_time
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.planner.planner import plan
from acceleratedjob.planner.report import progress, succeeded
from tests.operator.builders import NOW, ago, ended, pod, spec

JOB = spec()
WAITS = pod(1, ready=False, waiting=Waiting(reason="NotReady", message="not yet"))
FAILURE = Failure(attempt=0, replica=1, pod="digits-0-1", reason="Error", time=format_time(NOW))
RUNNING = progress(JOB, Observed(pods=(pod(0), WAITS)), ago(60)).with_failures(FAILURE)
COMPLETE = succeeded(JOB, RUNNING, ago(10))


def newer(known: Status, path: list[str | int], **fields: Any) -> Manifest:
    """A status with more in one of its mappings than is known."""
    told: Any = known.to_manifest()
    place = told
    for step in path:
        place = place[step]
    place |= fields
    return {"status": told}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param([], id="the status"),
        pytest.param(["conditions", 0], id="a condition"),
        pytest.param(["pending", 0], id="why pods wait"),
        pytest.param(["failures", 0], id="a failure"),
    ],
)
def test_a_field_that_is_not_known_is_left_out(path: list[str | int]) -> None:
    assert Status.from_manifest(newer(RUNNING, path, unheardOf={"a": [1]})) == RUNNING


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param([], {"phase": "Unheard"}, id="a phase"),
        pytest.param(["conditions", 0], {"status": "Unknown"}, id="a condition's status"),
        pytest.param(["conditions", 0], {"reason": "Unheard"}, id="a condition's reason"),
        pytest.param(["pending", 0], {"reason": "Unheard"}, id="why pods wait"),
        pytest.param(["failures", 0], {"reason": "Unheard"}, id="a failure's reason"),
    ],
)
def test_a_word_that_is_not_known_changes_no_decision(
    path: list[str | int], fields: Manifest
) -> None:
    found = Status.from_manifest(newer(RUNNING, path, **fields))
    for pods, phase in [((pod(0), pod(1)), "Running"), ((pod(0), ended(1, 1)), "Restarting")]:
        known = plan(JOB, Observed(status=RUNNING, pods=pods, service_uid="s"), NOW)
        made = plan(JOB, Observed(status=found, pods=pods, service_uid="s"), NOW)
        assert (made.status.phase, made.steps) == (phase, known.steps)
        assert made.status.attempt == known.status.attempt


def test_a_job_that_is_over_stays_so_whatever_its_phase_is_called() -> None:
    found = Status.from_manifest(newer(COMPLETE, [], phase="Unheard"))
    assert plan(JOB, Observed(status=found, pods=(pod(0), pod(1))), NOW).status == found
