"""What the API server refuses, with the sentence that the author of a manifest sees."""

import json
from collections.abc import Iterator

import pytest

from acceleratedjob.api.names import Manifest
from tests.cluster.conftest import fresh_namespace
from tests.cluster.jobs import Job
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import TestbedFailed
from tests.contract import documents
from tests.contract.manifests import API, BAD, GOOD, OPERATOR
from tests.operator.builders import job

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]

DRY = "--dry-run=server"  # all is checked, nothing kept


@pytest.fixture
def digits(testbed: Cluster, namespace: str) -> Job:
    return Job(testbed, namespace)


@pytest.fixture(scope="module")
def shared(testbed: Cluster) -> Iterator[Job]:
    """A namespace in which nothing is kept."""
    with fresh_namespace(testbed.kubectl) as name:
        yield Job(testbed, name)


def apply(digits: Job, manifest: Manifest, *flags: str) -> str:
    """Apply strictly; returns what kubectl says, also of a refusal."""
    metadata = {"name": manifest["metadata"]["name"], "namespace": digits.namespace}
    try:
        return digits.apply(manifest | {"metadata": metadata}, *flags)
    except TestbedFailed as error:
        return str(error)


@pytest.mark.parametrize(
    ("manifest", "field"), [pytest.param(row[1], row[2], id=row[0]) for row in BAD if row[3] == API]
)
def test_the_api_server_refuses_with_the_field(shared: Job, manifest: Manifest, field: str) -> None:
    told = apply(shared, manifest, DRY)
    assert "created" not in told
    assert field.removesuffix(".name") in told or field.removeprefix("spec.") in told, told


@pytest.mark.parametrize(
    "manifest",
    [pytest.param(row[1], id=row[0]) for row in (*GOOD, *documents.jobs())]
    + [pytest.param(row[1], id=row[0]) for row in BAD if row[3] == OPERATOR],
)
def test_the_api_server_takes(shared: Job, manifest: Manifest) -> None:
    assert "created" in apply(shared, manifest, DRY)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"replicas": 3}, "spec.replicas", id="another size"),
        pytest.param({"processesPerReplica": 2}, "spec.processesPerReplica", id="more processes"),
        pytest.param(
            {"template": {"spec": {"nodeSelector": {"a": "b"}}}}, "spec.template", id="another pod"
        ),
        pytest.param({"scheduling": {"gang": "volcano"}}, "spec.scheduling", id="another gang"),
        pytest.param({"runtime": {"seed": 1}}, "spec.runtime", id="another seed"),
        pytest.param({"network": {"port": 3000}}, "spec.network", id="another port"),
        pytest.param({"sharedMemory": {"sizeLimit": "1Gi"}}, "spec.sharedMemory", id="more memory"),
    ],
)
def test_what_pods_depend_on_changes_only_while_suspended(
    digits: Job, change: Manifest, field: str
) -> None:
    apply(digits, job())
    with pytest.raises(TestbedFailed) as refusal:
        digits.patch(change)
    assert field in str(refusal.value)
    assert "may change only while the job is suspended" in str(refusal.value)
    digits.patch({"suspend": True})
    # A queue changes the template and resumes the job in one write, and the other way round.
    assert "patched" in digits.patch(change | {"suspend": False})
    assert "patched" in digits.patch(job()["spec"] | {"suspend": True})


def test_an_elastic_job_is_scaled_within_its_bounds(digits: Job) -> None:
    apply(digits, job(elastic={"minReplicas": 2, "maxReplicas": 4}))
    for count in (4, 2):
        assert "scaled" in digits.kubectl("scale", "aj/digits", f"--replicas={count}")
    for count in (1, 5):
        with pytest.raises(TestbedFailed, match=r"spec\.replicas.*must be within elastic's"):
            digits.kubectl("scale", "aj/digits", f"--replicas={count}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, "kueue.x-k8s.io/multikueue", id="set later"),
        pytest.param({"managedBy": "kueue.x-k8s.io/multikueue"}, None, id="taken away"),
        pytest.param({"managedBy": "a.b/c"}, "a.b/d", id="changed"),
    ],
)
def test_who_runs_a_job_never_changes(digits: Job, before: Manifest, after: str | None) -> None:
    apply(digits, job(suspend=True, **before))
    with pytest.raises(TestbedFailed, match=r"spec\.managedBy.*managedBy may never change"):
        digits.patch({"managedBy": after})


def test_defaults_are_shown(digits: Job) -> None:
    apply(digits, job())
    shown = json.loads(digits.kubectl("get", "aj/digits", "-o", "json"))["spec"]
    del shown["template"]
    assert shown == {
        "replicas": 2,
        "processesPerReplica": "auto",
        "suspend": False,
        "failurePolicy": {
            "maxRestarts": 3,
            "backoff": {"initialSeconds": 1, "maxSeconds": 300},
            "countRestarts": "Total",
            "inPlaceRestarts": 3,
        },
        "cleanPodPolicy": "Running",
        "scheduling": {"gang": "none"},
        "network": {"port": 29500, "progressPort": 29400, "isolate": False},
    }


def test_every_field_is_explained(digits: Job) -> None:
    told = digits.kubectl("explain", "aj.spec", "--recursive")
    assert "maxRestarts" in told
    assert "gradientAccumulationSteps" in told
