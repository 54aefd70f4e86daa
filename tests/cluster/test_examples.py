"""The examples for a queue and for a gang's scheduler, where a stand-in defines their objects."""

import json
from typing import Any

import pytest
import yaml

from acceleratedjob.manifests.podgroup import SCHEDULERS
from tests.cluster.definitions import pod_groups
from tests.cluster.jobs import Job
from tests.cluster.testbed import kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]


def example(name: str, namespace: str) -> dict[str, Any]:
    """An example's job, on fake nodes and by the scheduler that is there."""
    manifest: dict[str, Any] = yaml.safe_load((PROJECT / f"examples/{name}/job.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    pod = manifest["spec"]["template"]["spec"]
    pod |= kwok.PLACEMENT | {"schedulerName": "default-scheduler"}
    return manifest


def test_kueues_example_makes_pods_that_are_one_group(job: Job) -> None:
    job.apply(example("kueue", job.namespace))
    job.wait_for("kueue", "jsonpath={.status.phase}=Running")
    group = "--selector=kueue.x-k8s.io/pod-group-name=kueue-0,kueue.x-k8s.io/queue-name=team"
    assert len(job.kubectl("get", "pods", group, "--output=name").split()) == 2


@pytest.mark.xdist_group("podgroups")
def test_volcanos_example_makes_a_pod_group_of_both(job: Job, testbed: Cluster) -> None:
    definition = pod_groups(SCHEDULERS["volcano"].api_version)
    kind = definition["metadata"]["name"]
    if testbed.kubectl("get", "crd", kind, "--ignore-not-found"):
        pytest.skip(f"this cluster has {kind}")
    testbed.kubectl("apply", "--filename=-", stdin=json.dumps(definition))
    try:
        job.apply(example("volcano", job.namespace))
        job.wait_for("volcano", "jsonpath={.status.phase}=Running")
        group = json.loads(job.kubectl("get", f"{kind}/volcano", "--output=jsonpath={.spec}"))
        assert group == {"minMember": 2, "queue": "default"}
    finally:
        testbed.kubectl("delete", "crd", kind, "--ignore-not-found")
