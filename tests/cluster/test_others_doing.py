"""What others do to a job on a real API server: webhooks, classes that come later, changes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.jobs import SECONDS, Job, fake_job
from tests.cluster.testbed.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]


@pytest.fixture
def cluster_wide(job: Job) -> Iterator[list[dict[str, Any]]]:
    """Objects that are in no namespace, and are deleted after the test."""
    made: list[dict[str, Any]] = []
    yield made
    for each in made:
        job.kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")


def test_a_webhook_that_is_away_is_told_until_it_is_back(
    job: Job, cluster_wide: list[dict[str, Any]]
) -> None:
    broken = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": job.namespace},
        "webhooks": [
            {
                "name": "inject.mesh.example",
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 2,
                "clientConfig": {"url": "https://127.0.0.1:9/inject"},
                "namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": job.namespace}
                },
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            }
        ],
    }
    cluster_wide.append(broken)
    job.kubectl("apply", "--filename=-", stdin=json.dumps(broken))
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert 'failed calling webhook "inject.mesh.example"' in job.get(".status.pending[0].message")
    assert job.get(".status.pending[0].nextTry")
    events = job.kubectl("get", "events", "--field-selector=reason=Refused", "--output=name")
    assert len(events.split()) == 1
    job.kubectl("delete", "mutatingwebhookconfiguration", job.namespace)
    job.wait("jsonpath={.status.phase}=Running")
    assert not job.get(".status.pending")


def test_a_priority_class_may_come_later(job: Job, cluster_wide: list[dict[str, Any]]) -> None:
    job.apply(fake_job(job.namespace, scheduling={"priorityClassName": job.namespace}))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert "no PriorityClass with name" in job.get(".status.pending[0].message")
    made = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": job.namespace},
        "value": 1,
    }
    cluster_wide.append(made)
    job.kubectl("apply", "--filename=-", stdin=json.dumps(made))
    job.wait("jsonpath={.status.phase}=Running")


def test_a_service_whose_selector_was_changed_has_its_own_again(job: Job) -> None:
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    selector = ("get", "service/digits", "--ignore-not-found", "--output=jsonpath={.spec.selector}")
    before = job.kubectl(*selector)
    other = {"spec": {"selector": {"accelerated.dev/job-name": "other"}}}
    job.kubectl("patch", "service/digits", "--type=merge", "--patch", json.dumps(other))
    wait_until(
        lambda: job.kubectl(*selector) == before,
        what="the Service to have its selector again",
        seconds=SECONDS,
    )
    assert job.get(".status.attempt") == "0"
    repaired = ("get", "events", "--field-selector=reason=Repaired", "--output=name")
    wait_until(lambda: bool(job.kubectl(*repaired)), what="the Event of it", seconds=SECONDS)
    assert len(job.kubectl(*repaired).split()) == 1
