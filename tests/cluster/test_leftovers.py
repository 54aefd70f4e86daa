"""Pods that stop slowly or never, on a real API server: on a node whose kubelet does not answer."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.api.names import pod_name
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.template import REQUIRED_TERMS
from tests.attempts import pod_of
from tests.cluster.jobs import Job, fake_job
from tests.cluster.operators import connection, end_pod, operator
from tests.cluster.testbed.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

TERMINATING = "jsonpath={.metadata.deletionTimestamp}"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}


def tainted(name: str) -> list[dict[str, str]]:
    """A taint that keeps all pods away but those of one test."""
    return [{"key": "test", "value": name, "effect": "NoSchedule"}]


@pytest.fixture
def dead_node(testbed: Cluster, namespace: str) -> Iterator[str]:
    """A node to which pods are assigned, and where nothing happens: nobody confirms an end."""
    labels = {"test": namespace, f"rack-{namespace}": "a"}
    size = {"cpu": "8", "memory": "64Gi", "pods": "2"}  # pods that go count until they are gone
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace, "labels": labels}}
    node |= {"spec": {"taints": tainted(namespace)}}
    testbed.kubectl("create", "--filename=-", stdin=json.dumps(node))
    status = {"status": {"allocatable": size, "capacity": size, "conditions": [READY]}}
    change = ("--subresource=status", "--type=merge", "--patch", json.dumps(status))
    testbed.kubectl("patch", f"node/{namespace}", *change)
    yield namespace
    testbed.kubectl("delete", f"node/{namespace}", "--ignore-not-found")


def on_dead_node(job: Job, **pod: Any) -> dict[str, Any]:
    """A job whose pods have a second to stop and tolerate the node of this test."""
    manifest = fake_job(job.namespace)
    template = manifest["spec"]["template"]["spec"]
    template |= {"terminationGracePeriodSeconds": 1, "nodeSelector": {"test": job.namespace}}
    template |= {"tolerations": [{"operator": "Exists"}], **pod}
    return manifest


def come_up(job: Job, *pods: str) -> None:
    """Let pods be ready as their kubelet would."""
    running = {"name": "trainer", "ready": True, "state": {"running": {}}}
    container = running | {"image": "x", "imageID": "", "restartCount": 0}
    state = {"phase": "Running", "conditions": [READY], "containerStatuses": [container]}
    for name in pods:
        for event in ("create", "jsonpath={.spec.nodeName}"):
            job.kubectl("wait", f"pod/{name}", f"--for={event}", "--timeout=240s")
        change = ("--type=merge", "--patch", json.dumps({"status": state}))
        job.kubectl("patch", f"pod/{name}", "--subresource=status", *change)


def remove(job: Job, *pods: str) -> None:
    """Take pods away as a person does when their node is gone."""
    job.kubectl("delete", "pod", *pods, "--grace-period=0", "--force")


PODS = ("digits-0-0", "digits-0-1")


@pytest.mark.usefixtures("dead_node")
def test_a_deletion_in_the_foreground_is_over_when_the_pods_have_gone(job: Job) -> None:
    job.apply(on_dead_node(job))
    come_up(job, *PODS)
    job.wait("jsonpath={.status.phase}=Running")
    job.kubectl("delete", "aj/digits", "--cascade=foreground", "--wait=false")
    job.kubectl("wait", *(f"pod/{name}" for name in PODS), f"--for={TERMINATING}", "--timeout=240s")
    remove(job, "digits-0-0")
    assert job.names("aj") == ["digits"]
    remove(job, "digits-0-1")
    job.wait_gone("aj/digits")
    assert job.names("pods") == []


@pytest.mark.usefixtures("dead_node")
def test_a_job_applied_again_names_the_pods_that_are_going_and_begins_when_they_have(
    job: Job,
) -> None:
    job.apply(on_dead_node(job))
    come_up(job, *PODS)
    job.wait("jsonpath={.status.phase}=Running")
    job.kubectl("delete", "aj/digits")
    job.apply(on_dead_node(job))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    told = job.get(".status.pending[0].message")
    assert "digits-0-0 of a deleted job with the same name is still terminating" in told
    assert f"on node {job.namespace}" in told
    remove(job, *PODS)
    come_up(job, *PODS)
    job.wait("jsonpath={.status.phase}=Running")
    assert job.get(".status.attempt") == "0"


def exclusive(job: Job, key: str) -> JobSpec:
    """A job that has one rack for itself, and would rather have rack a."""
    racks = [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]
    first = {"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}
    affinity = {
        REQUIRED_TERMS: {"nodeSelectorTerms": racks},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": first}],
    }
    manifest = on_dead_node(job, nodeSelector={}, affinity={"nodeAffinity": affinity})
    manifest["metadata"]["uid"] = job.namespace
    manifest["spec"]["scheduling"] = {"exclusiveTopologyKey": key}
    return JobSpec.from_manifest(manifest)


def placed(job: Job, spec: JobSpec, attempt: int) -> set[str]:
    """The nodes of an attempt's pods, once the scheduler has found them."""
    for index in range(spec.replicas):
        manifest = pod_of(spec, attempt=attempt, index=index)
        del manifest["metadata"]["ownerReferences"]  # there is no such job
        job.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
    names = [f"pod/{pod_name(spec.name, attempt, index)}" for index in range(spec.replicas)]
    job.kubectl("wait", *names, "--for=jsonpath={.spec.nodeName}", "--timeout=240s")
    return set(job.kubectl("get", *names, "--output=jsonpath={.items[*].spec.nodeName}").split())


def test_pods_that_a_dead_rack_keeps_do_not_bind_the_next_attempt_to_it(
    testbed: Cluster, namespace: str, dead_node: str, fake_nodes: list[str]
) -> None:
    """No operator takes part, which would wait for the old pods' grace period."""
    job, key, other = Job(testbed, namespace), f"rack-{dead_node}", fake_nodes[0]
    spec = exclusive(job, key)
    testbed.kubectl("label", other, f"{key}=b")
    try:
        assert placed(job, spec, 0) == {dead_node}
        job.kubectl("delete", "pods", "--all", "--wait=false")
        assert placed(job, spec, 1) == {other.removeprefix("node/")}
        assert len(job.names("pods")) == 2 * spec.replicas
    finally:
        testbed.kubectl("label", other, f"{key}-")


def evict(job: Job, name: str) -> None:
    """Ask for a pod's eviction, as `kubectl drain` does."""
    metadata = {"name": name, "namespace": job.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{job.namespace}/pods/{name}/eviction"
    job.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(body))


@pytest.mark.usefixtures("dead_node")
def test_a_pod_that_ended_with_0_because_it_was_evicted_has_not_finished(
    testbed: Cluster, namespace: str, tmp_path: Path
) -> None:
    """It saved and ended while there was no operator: the next one sees all of it at once."""
    job, manifest = Job(testbed, namespace), on_dead_node(Job(testbed, namespace))
    manifest["spec"] |= {"replicas": 1, "failurePolicy": {"backoff": {"initialSeconds": 0}}}

    async def end() -> None:
        async with connection(testbed.kubeconfig) as link:
            await end_pod(link, namespace, "digits-0-0", 0)

    with operator(testbed.kubeconfig, tmp_path / "first.log", namespace):
        job.apply(manifest)
        come_up(job, "digits-0-0")
        job.wait("jsonpath={.status.phase}=Running")
    evict(job, "digits-0-0")
    asyncio.run(end())
    with operator(testbed.kubeconfig, tmp_path / "second.log", namespace):
        job.wait("jsonpath={.status.attempt}=1")
    assert job.get(".status.failures[0].reason") == "EvictionByEvictionAPI"
    assert job.get(".status.restarts") == "0"
