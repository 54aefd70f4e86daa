"""What Flux, Argo CD and others make of a job's status, by the rules of kstatus.

Source: kubernetes-sigs/cli-utils, pkg/kstatus/status, `checkGenericProperties` and
`checkReadyCondition`, which are all that it knows of custom resources.
"""

from dataclasses import replace

import pytest

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed
from acceleratedjob.planner.completion import finished
from acceleratedjob.planner.report import progress
from acceleratedjob.planner.state import Situation
from tests.operator.builders import NOW, job, spec
from tests.operator.stages import COMPLETE, FAILED, INVALID, JOB, RUNNING, SECOND, SUSPENDED


def kstatus(found: Manifest) -> str:
    """What kstatus computes of an object that is not being deleted."""
    status = found.get("status", {})
    if (
        status.get("observedGeneration", found["metadata"]["generation"])
        != (found["metadata"]["generation"])
    ):
        return "InProgress"
    held = {one["type"]: one["status"] for one in status.get("conditions", ())}
    if held.get("Reconciling") == "True":
        return "InProgress"
    if held.get("Stalled") == "True":
        return "Failed"
    return "Current" if held.get("Ready", "True") == "True" else "InProgress"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(progress(JOB, Observed(), NOW), "InProgress", id="pods are yet to come"),
        pytest.param(RUNNING, "Current", id="all replicas are up"),
        pytest.param(SECOND, "InProgress", id="the next attempt begins"),
        pytest.param(SUSPENDED, "InProgress", id="suspended: a queue may hold it"),
        pytest.param(COMPLETE, "Current", id="it has succeeded"),
        pytest.param(FAILED, "Failed", id="it has failed"),
        pytest.param(INVALID, "Failed", id="it cannot be run"),
    ],
)
def test_a_job_is_in_the_state_that_kstatus_finds(status: Status, expected: str) -> None:
    assert kstatus(job() | {"status": status.to_manifest()}) == expected


@pytest.mark.parametrize("status", [COMPLETE, FAILED, INVALID])
def test_a_job_that_is_over_observes_later_generations(status: Status) -> None:
    later = replace(spec(), generation=7)
    plan = finished(Situation(later, Observed(status=status), NOW))
    assert plan is not None
    assert plan.status == replace(status, observed_generation=7)
    found = job() | {"status": plan.status.to_manifest()}
    found["metadata"]["generation"] = 7
    assert kstatus(found) in ("Current", "Failed")
