"""Pods that stop slowly or never, on a real API server: on a node whose kubelet does not answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.jobs import Job, fake_job
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
    size = {"cpu": "8", "memory": "64Gi", "pods": "100"}
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
            job.kubectl("wait", f"pod/{name}", f"--for={event}", "--timeout=60s")
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
    job.kubectl("wait", *(f"pod/{name}" for name in PODS), f"--for={TERMINATING}")
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
