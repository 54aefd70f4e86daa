"""Gangs, exclusive placement and isolation on a real API server and scheduler."""

import json
from collections.abc import Iterator

import pytest

from acceleratedjob.manifests.podgroup import SCHEDULERS
from tests.cluster.definitions import pod_groups
from tests.cluster.jobs import Job, fake_job
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import TestbedFailed

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]


@pytest.fixture(params=SCHEDULERS)
def gang(request: pytest.FixtureRequest, testbed: Cluster) -> Iterator[str]:
    """A gang whose scheduler is not installed."""
    name = pod_groups(SCHEDULERS[request.param].api_version)["metadata"]["name"]
    if testbed.kubectl("get", "crd", name, "--ignore-not-found"):
        pytest.skip(f"this cluster has {name}")
    yield request.param
    testbed.kubectl("delete", "crd", name, "--ignore-not-found")


@pytest.mark.xdist_group("podgroups")  # one for all who define PodGroups
def test_a_gang_waits_for_its_scheduler_to_be_installed_and_then_starts(
    gang: str, job: Job, testbed: Cluster
) -> None:
    manifest = fake_job(job.namespace, replicas=3, scheduling={"gang": gang})
    manifest["spec"]["template"]["spec"]["schedulerName"] = "default-scheduler"
    job.apply(manifest)
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert SCHEDULERS[gang].project in job.get(".status.pending[0].message")
    assert job.names("pods") == []
    definition = pod_groups(SCHEDULERS[gang].api_version)
    testbed.kubectl("apply", "--filename=-", stdin=json.dumps(definition))
    job.wait("jsonpath={.status.phase}=Running")
    kind = definition["metadata"]["name"]
    assert job.kubectl("get", f"{kind}/digits", "--output=jsonpath={.spec.minMember}") == "3"
    job.kubectl("delete", "aj/digits")
    job.wait_gone(f"{kind}/digits")


def nodes(job: Job, name: str) -> set[str]:
    """The nodes that a job's pods run on."""
    selector = f"--selector=accelerated.dev/job-name={name}"
    shown = job.kubectl("get", "pods", selector, "--output=jsonpath={.items[*].spec.nodeName}")
    return set(shown.split())


def test_exclusive_jobs_share_no_node(job: Job) -> None:
    exclusive = {"exclusiveTopologyKey": "kubernetes.io/hostname"}
    for name in ("one", "two"):
        job.apply(fake_job(job.namespace, name=name, replicas=3, scheduling=exclusive))
    for name in ("one", "two"):
        job.wait_for(name, "jsonpath={.status.phase}=Running")
    one, two = nodes(job, "one"), nodes(job, "two")
    assert (len(one), len(two), one & two) == (1, 1, set())


def test_kueues_words_are_ones_that_the_api_server_takes(job: Job) -> None:
    job.apply(fake_job(job.namespace, scheduling={"gang": "kueue", "queue": "team"}))
    job.wait("jsonpath={.status.phase}=Running")
    group = "--selector=kueue.x-k8s.io/pod-group-name=digits-0"
    assert len(job.kubectl("get", "pods", group, "--output=name").split()) == 2


def test_a_wall_stands_while_the_job_asks_for_it(job: Job) -> None:
    job.apply(fake_job(job.namespace, network={"isolate": True}))
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("networkpolicies") == ["digits"]
    job.kubectl("delete", "networkpolicy/digits", "--wait=false")
    job.kubectl("wait", "--for=create", "networkpolicy/digits", "--timeout=240s")
    job.patch({"suspend": True, "network": {"isolate": False}})
    job.wait("condition=Suspended")
    job.patch({"suspend": False})
    job.wait("jsonpath={.status.phase}=Running")
    job.wait_gone("networkpolicy/digits")
    assert job.names("services") == ["digits"]


def test_a_wall_that_is_anothers_is_said_to_be(job: Job) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "digits"},
        "spec": {"podSelector": {}},
    }
    job.kubectl("apply", "--filename=-", stdin=json.dumps(policy))
    job.apply(fake_job(job.namespace, network={"isolate": True}))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert "NetworkPolicy" in job.get(".status.pending[0].message")
    with pytest.raises(TestbedFailed, match="not found"):
        job.kubectl("get", "pod/digits-0-0")
