"""What a person's rights are worth: a job's author gains no more than the administrator means."""

import json
from collections.abc import Iterator

import pytest

from acceleratedjob.api import Manifest
from tests.cluster.charts import RELEASE, Release
from tests.cluster.conftest import Kubectl
from tests.cluster.jobs import CHART, Job, fake_job
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import TestbedFailed, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]

WORD = "only-who-may-create-pods"
JOBS = "acceleratedjobs.accelerated.dev"
SENTENCE = "may not create pods in namespace"


@pytest.fixture
def place(testbed: Cluster, namespace: str) -> Job:
    """A namespace where `author` may write jobs and no pods, and `trainer` both."""
    job = Job(testbed, namespace)
    verbs = "--verb=create,get,patch,update"
    job.kubectl("create", "role", "jobs", verbs, f"--resource={JOBS},{JOBS}/scale")
    job.kubectl("create", "role", "pods", verbs, "--resource=pods")
    for role, users in (("jobs", ("author", "trainer")), ("pods", ("trainer",))):
        whom = [f"--user={user}" for user in users]
        job.kubectl("create", "rolebinding", role, f"--role={role}", *whom)
    return job


def tried(job: Job, user: str, *arguments: str, stdin: Manifest | None = None) -> str:
    """What kubectl says to a user, also of a refusal."""
    text = None if stdin is None else json.dumps(stdin)
    try:
        return job.kubectl("--as", user, *arguments, stdin=text)
    except TestbedFailed as error:
        return str(error)


def created(job: Job, user: str, *flags: str) -> str:
    """What a user is told who creates a job that makes nothing yet."""
    manifest = fake_job(job.namespace, name=user, suspend=True)
    return tried(job, user, "create", "--filename=-", *flags, stdin=manifest)


def changed(job: Job, name: str, user: str, spec: Manifest) -> str:
    """What a user is told who changes a job."""
    patch = ("--type=merge", "--patch", json.dumps({"spec": spec}))
    return tried(job, user, "patch", f"aj/{name}", *patch)


@pytest.fixture
def policy(place: Job) -> Iterator[str]:
    """The name of the policy that the chart installs for this namespace, once it is in force."""
    release, name = Release(place.cluster, place.namespace), f"{place.namespace}-{WORD}"
    values = {"crds": {"enabled": False}, "policy": {"onlyWhoMayCreatePods": True}}
    own = {"namespaces": [place.namespace], "fullnameOverride": place.namespace}
    release.helm("install", RELEASE, CHART, values=values | own)
    wait_until(
        lambda: SENTENCE in created(place, "author", "--dry-run=server"),
        what="the policy in force",
        seconds=60,
    )
    yield name
    release.helm("uninstall", RELEASE)


def test_without_the_policy_who_may_create_jobs_may_create_pods_by_them(place: Job) -> None:
    assert "created" in created(place, "author")
    assert "forbidden" in tried(place, "author", "run", "x", "--image=x")


def test_with_the_policy_only_who_may_create_pods_may_create_jobs(
    place: Job, policy: str, kubectl: Kubectl
) -> None:
    told = created(place, "author")
    assert f"an AcceleratedJob creates pods, and author {SENTENCE} {place.namespace}" in told
    assert place.names("aj") == []
    assert "created" in created(place, "trainer")
    checked = f"validatingadmissionpolicy/{policy}"
    kubectl("wait", checked, "--for=jsonpath={.status.observedGeneration}=1")
    assert kubectl("get", checked, "--output=jsonpath={.status.typeChecking}") == "{}"


@pytest.mark.usefixtures("policy")
def test_with_the_policy_pods_are_not_changed_by_who_may_not_create_them(
    place: Job,
) -> None:
    assert "created" in created(place, "trainer")
    other = {"template": {"spec": {"serviceAccountName": "another"}}}
    assert SENTENCE in changed(place, "trainer", "author", other)
    assert "patched" in changed(place, "trainer", "author", {"replicas": 3})
    assert "patched" in changed(place, "trainer", "trainer", other)


def test_an_author_does_not_write_the_status(place: Job) -> None:
    written = fake_job(place.namespace, name="author", suspend=True) | {"status": {"attempt": 9}}
    assert "created" in tried(place, "author", "create", "--filename=-", stdin=written)
    status = json.dumps({"status": {"attempt": 9}})
    flags = ("patch", "aj/author", "--type=merge", "--patch", status)
    tried(place, "author", *flags)
    assert "forbidden" in tried(place, "author", *flags, "--subresource=status")
    assert place.kubectl("get", "aj/author", "--output=jsonpath={.status}") == ""
