"""Pods that somebody else has made, and that say they are a job's."""

import json
from typing import Any

import pytest

from acceleratedjob.api.names import API_VERSION, DEFAULT_CONTAINER, JOB_NAME_LABEL, KIND
from tests.cluster.jobs import Job, fake_job
from tests.cluster.test_operator import end
from tests.cluster.testbed import kwok

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

ONCE: dict[str, Any] = {"failurePolicy": {"maxRestarts": 0}}


def make(job: Job, name: str, *, uid: str = "", **spec: Any) -> None:
    """Make a pod with the job's label, and an owner of a uid if one is given."""
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": job.name, "uid": uid}
    metadata = {
        "name": name,
        "labels": {JOB_NAME_LABEL: job.name},
        "annotations": {DEFAULT_CONTAINER: "trainer"},
        "ownerReferences": [owner | {"controller": True}] if uid else [],
    }
    container = {"name": "trainer", "image": "x"}
    pod = {"containers": [container], "restartPolicy": "Never", **kwok.PLACEMENT} | spec
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})
    job.kubectl("create", "--filename=-", stdin=text)


def test_a_label_makes_no_pod_a_jobs(job: Job) -> None:
    make(job, "digits-0-7")
    job.apply(fake_job(job.namespace, **ONCE))
    job.wait("jsonpath={.status.phase}=Running")
    end(job, "digits-0-7", 1)
    for index in range(2):
        end(job, f"digits-0-{index}", 0)
    job.wait("condition=Complete")
    assert job.get(".status.replicas") == "2"
    job.kubectl("delete", "aj/digits")
    job.wait_gone("pods/digits-0-0", "pods/digits-0-1")
    assert job.names("pods") == ["digits-0-7"]


def test_a_pod_in_the_place_of_a_jobs_is_told_and_left_alone(job: Job) -> None:
    make(job, "digits-0-1")
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert "exists and is not this job's" in job.get(".status.pending[0].message")
    job.kubectl("delete", "aj/digits")
    job.wait_gone("pods/digits-0-0")
    assert job.names("pods") == ["digits-0-1"]


def test_a_forged_owner_harms_at_worst_the_job_that_it_names(job: Job) -> None:
    job.apply(fake_job(job.namespace, **ONCE))
    job.apply(fake_job(job.namespace, name="other", **ONCE))
    for name in ("digits", "other"):
        job.wait_for(name, "jsonpath={.status.phase}=Running")
    uid = job.get(".metadata.uid")
    beyond = "digits-0-2147483648"  # no status can hold that number
    make(job, beyond, uid=uid)
    end(job, beyond, 1)
    make(job, "forged-0-1", uid=uid)
    end(job, "forged-0-1", 1)
    job.wait("condition=Failed")
    assert job.get(".status.failures[0].pod") == "forged-0-1"
    for index in range(2):
        end(job, f"other-0-{index}", 0)
    job.wait_for("other", "condition=Complete")


@pytest.mark.parametrize("grace", [10**11, 2**63 - 1])
def test_a_pod_that_asks_for_an_endless_grace_stops_no_operator(job: Job, grace: int) -> None:
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    name = "digits-0-7"
    make(job, name, uid=job.get(".metadata.uid"), terminationGracePeriodSeconds=grace)
    job.kubectl("delete", f"pod/{name}", "--wait=false", "--ignore-not-found")
    job.apply(fake_job(job.namespace, name="other"))
    job.wait_for("other", "jsonpath={.status.phase}=Running")
