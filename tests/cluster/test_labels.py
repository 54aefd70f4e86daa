"""The policy that docs/security.md offers: only the operator puts a pod inside of a job's wall."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.conftest import Kubectl
from tests.cluster.jobs import SECONDS, Job
from tests.cluster.test_rights import tried
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import wait_until
from tests.contract.documents import read

pytestmark = pytest.mark.cluster

LABEL = "accelerated.dev/job-name"
OPERATOR = "system:serviceaccount:acceleratedjob:acceleratedjob"
REFUSED = f"may not set or remove the label {LABEL}"


@pytest.fixture
def place(testbed: Cluster, namespace: str) -> Job:
    """A namespace where both the operator and a person may write pods."""
    job = Job(testbed, namespace)
    verbs = "--verb=create,get,patch,update"
    job.kubectl("create", "role", "pods", verbs, "--resource=pods,pods/status")
    job.kubectl(
        "create", "rolebinding", "pods", "--role=pods", f"--user={OPERATOR}", "--user=person"
    )
    return job


def created(job: Job, user: str, name: str, *flags: str, **labels: str) -> str:
    """What a user is told who creates a pod."""
    facts = {"name": name, "namespace": job.namespace, "labels": labels}
    spec = {"containers": [{"name": "a", "image": "a"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": facts, "spec": spec}
    return tried(job, user, "create", "--filename=-", *flags, stdin=pod)


def labelled(job: Job, user: str, name: str, value: str | None, *flags: str) -> str:
    """What a user is told who changes a pod's label."""
    patch = json.dumps({"metadata": {"labels": {LABEL: value}}})
    return tried(job, user, "patch", f"pod/{name}", "--type=merge", "--patch", patch, *flags)


@pytest.fixture
def policy(place: Job, kubectl: Kubectl) -> Iterator[None]:
    """The page's, in force in this namespace alone."""
    page = read("docs/security.md")
    (text,) = [
        one.partition("```")[0]
        for one in page.split("```yaml\n")
        if LABEL in one and "kind: Validating" in one
    ]
    checked, binding = yaml.safe_load_all(text)
    for one in (checked, binding):
        one["metadata"]["name"] = place.namespace
    own = {"kubernetes.io/metadata.name": place.namespace}
    binding["spec"] |= {
        "policyName": place.namespace,
        "matchResources": {"namespaceSelector": {"matchLabels": own}},
    }
    kubectl("create", "--filename=-", stdin=json.dumps(checked))
    kubectl("create", "--filename=-", stdin=json.dumps(binding))
    wait_until(
        lambda: REFUSED in created(place, "person", "x", "--dry-run=server", **{LABEL: "x"}),
        what="the policy in force",
        seconds=SECONDS,
    )
    yield
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        kubectl("delete", kind, place.namespace)


@pytest.mark.usefixtures("policy")
def test_with_the_policy_only_the_operator_labels_pods(place: Job) -> None:
    told = created(place, "person", "stranger", **{LABEL: "digits"})
    assert f"person {REFUSED}" in told
    assert "created" in created(place, "person", "own")
    assert "created" in created(place, OPERATOR, "digits-0", **{LABEL: "digits"})
    for name, value in (("own", "digits"), ("digits-0", None), ("digits-0", "another")):
        assert REFUSED in labelled(place, "person", name, value)
        assert REFUSED in labelled(place, "person", name, value, "--subresource=status")
    assert "patched" in labelled(place, OPERATOR, "digits-0", "another")
    assert "patched" in tried(
        place, "person", "patch", "pod/digits-0", "--patch", '{"metadata":{"labels":{"a":"b"}}}'
    )
