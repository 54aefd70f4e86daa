import pytest

from acceleratedjob.controller.field_path import field_at_fault
from acceleratedjob.planner.actions import (
    Action,
    CreatePod,
    CreatePodGroup,
    CreatePolicy,
    CreateService,
)
from tests.attempts import gang_of, pod_of
from tests.operator.builders import CONTAINER, spec

SIDECAR = {"name": "logs", "env": [{"name": "A"}]}
TRAINER = CONTAINER | {"env": [{"name": "ACCELERATE_USE_CPU", "value": "no"}, {"name": "B C"}]}
JOB = spec(template={"spec": {"containers": [SIDECAR, TRAINER]}})
THEIRS = pod_of(JOB, attempt=0, index=0)["spec"]["containers"][1]["env"].index({"name": "B C"})


@pytest.mark.parametrize(
    ("action", "told", "field"),
    [
        pytest.param(
            CreatePod(0, 0), "spec.dnsPolicy", "spec.template.spec.dnsPolicy", id="a pod's"
        ),
        pytest.param(
            CreatePod(0, 0), "metadata.labels", "spec.template.metadata.labels", id="its metadata's"
        ),
        pytest.param(CreatePod(0, 0), "", "spec.template", id="a pod's, but which"),
        pytest.param(
            CreatePod(0, 0),
            f"spec.containers[1].env[{THEIRS}].name",
            "spec.template.spec.containers[1].env[1].name",
            id="the author's variables come after ours",
        ),
        pytest.param(
            CreatePod(0, 0),
            "spec.containers[0].env[0].name",
            "spec.template.spec.containers[0].env[0].name",
            id="a sidecar has none of ours",
        ),
        pytest.param(CreatePodGroup(), "spec.minMember", "spec.scheduling", id="the gang's"),
        pytest.param(CreatePolicy(), "spec", "spec.network.isolate", id="the wall's"),
        pytest.param(CreateService(), "spec.ports[0]", "spec", id="the Service's"),
    ],
)
def test_the_jobs_field_at_fault(action: Action, told: str, field: str) -> None:
    assert field_at_fault(gang_of(JOB), action, told) == field
