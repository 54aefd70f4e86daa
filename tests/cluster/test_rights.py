"""What a person's rights are worth: a job's author gains no more than the administrator means."""

import json
from collections.abc import Iterator

import pytest
import yaml

from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.manifests.in_place import FAIL_EXIT_CODES, RESTARTS, STALL_DEADLINE
from acceleratedjob.manifests.network import network_policy
from tests.attempts import pod_of
from tests.cluster.charts import RELEASE, Release
from tests.cluster.conftest import Kubectl
from tests.cluster.jobs import CHART, CRD, SECONDS, Job, fake_job
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.processes import TestbedFailed, wait_until
from tests.contract.manifests import TEMPLATE

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
    last = ("auth", "can-i", "create", "pods", "--as=trainer", f"--namespace={namespace}")
    wait_until(lambda: testbed.answers(*last), what="the rights of trainer", seconds=SECONDS)
    return job


def tried(job: Job, user: str, *arguments: str, stdin: Manifest | None = None) -> str:
    """What kubectl says to a user, also of a refusal."""
    text = None if stdin is None else json.dumps(stdin)
    try:
        return job.kubectl("--as", user, *arguments, stdin=text)
    except TestbedFailed as error:
        return str(error)


def created(job: Job, user: str, *flags: str, **spec: Manifest) -> str:
    """What a user is told who creates a job that makes nothing yet."""
    manifest = fake_job(job.namespace, name=user, suspend=True, **spec)
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
        seconds=SECONDS,
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
    kubectl("wait", checked, "--for=jsonpath={.status.observedGeneration}=1", "--timeout=240s")
    assert kubectl("get", checked, "--output=jsonpath={.status.typeChecking}") == "{}"


# Another value of each field of a job's spec. The first are asked for the right to create pods.
MADE_FROM: dict[str, Manifest] = {
    "template": {"template": {"spec": {"serviceAccountName": "another"}}},
    "runtime": {"runtime": {"seed": 1}},
    "checkpoint": {"checkpoint": {"uri": "s3://bucket"}},
    "scheduling": {"scheduling": {"priorityClassName": "system-node-critical"}},
    "scheduling, in a place of nodes": {"scheduling": {"exclusiveTopologyKey": "rack"}},
    "network": {"network": {"port": 30000}},
    "network, its isolation": {"network": {"isolate": True}},
    "sharedMemory": {"sharedMemory": {"sizeLimit": "500Gi"}},
    "processesPerReplica": {"processesPerReplica": 8},
}
OTHERS: dict[str, Manifest] = {
    "replicas": {"replicas": 3},
    "elastic": {"elastic": {"maxReplicas": 5}},
    "failurePolicy": {"failurePolicy": {"maxRestarts": 1, "inPlaceRestarts": 0}},
    "cleanPodPolicy": {"cleanPodPolicy": "All"},
    "activeDeadlineSeconds": {"activeDeadlineSeconds": 60},
    "startupDeadlineSeconds": {"startupDeadlineSeconds": 60},
    "stallDeadlineSeconds": {"stallDeadlineSeconds": 60},
    "ttlSecondsAfterFinished": {"ttlSecondsAfterFinished": 60},
    "suspend": {"suspend": False},
}
NEVER_CHANGES = {"managedBy"}
OF_RESTARTS = {RESTARTS, STALL_DEADLINE, FAIL_EXIT_CODES}  # numbers, which permit nothing


def test_each_field_of_a_spec_is_known_to_be_one_that_pods_are_made_from_or_not() -> None:
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    known = {name.split(",")[0] for name in MADE_FROM} | set(OTHERS) | NEVER_CHANGES
    assert known == set(fields)


def made_pod(job: Manifest, change: Manifest) -> Manifest:
    """The pod, and the rest, of a job with a change of its spec."""
    merged = job | {"spec": job["spec"] | {"suspend": False} | change}
    if "template" in change:
        pod = job["spec"]["template"]["spec"] | change["template"]["spec"]
        merged["spec"]["template"] = {"spec": pod}
    spec = JobSpec.from_manifest(merged)
    wall = network_policy(spec) if spec.network.isolate else None
    pod = pod_of(spec, attempt=0, index=0)
    (trainer, *_) = pod["spec"]["containers"]
    trainer["env"] = [one for one in trainer["env"] if one["name"] not in OF_RESTARTS]
    return {"pod": pod, "wall": wall}


@pytest.mark.parametrize("field", [*MADE_FROM, *OTHERS])
def test_what_the_policy_asks_about_is_what_changes_a_pod(field: str) -> None:
    made = fake_job("research", replicas=1)
    changes = made_pod(made, {}) != made_pod(made, (MADE_FROM | OTHERS)[field])
    by_number = field in ("replicas", "elastic")  # how many pods there are, which is not asked
    assert changes == (field in MADE_FROM) or by_number


@pytest.mark.usefixtures("policy")
def test_with_the_policy_pods_are_not_changed_by_who_may_not_create_them(
    place: Job,
) -> None:
    assert "created" in created(place, "trainer")
    for field, change in MADE_FROM.items():
        assert SENTENCE in changed(place, "trainer", "author", change), field
    for field, change in OTHERS.items():
        assert "patched" in changed(place, "trainer", "author", change), field
    for field, change in (MADE_FROM | {"suspend": {"suspend": True}}).items():
        if field != "processesPerReplica":
            assert "patched" in changed(place, "trainer", "trainer", {"suspend": True} | change)
    assert SENTENCE in changed(place, "trainer", "author", {"runtime": None})
    assert SENTENCE in changed(place, "trainer", "author", {"sharedMemory": None})


@pytest.mark.usefixtures("policy")
def test_with_the_policy_claims_are_not_created_by_who_may_not_create_them(place: Job) -> None:
    told = "and trainer may not create persistentvolumeclaims in namespace"
    assert told in created(place, "trainer", checkpoint=TEMPLATE)
    place.kubectl("create", "role", "claims", "--verb=create", "--resource=persistentvolumeclaims")
    place.kubectl("create", "rolebinding", "claims", "--role=claims", "--user=trainer")
    right = ("auth", "can-i", "create", "pvc", "--as=trainer", f"--namespace={place.namespace}")
    wait_until(lambda: place.cluster.answers(*right), what="the right", seconds=SECONDS)
    assert "created" in created(place, "trainer", checkpoint=TEMPLATE)


def test_an_author_does_not_write_the_status(place: Job) -> None:
    written = fake_job(place.namespace, name="author", suspend=True) | {"status": {"attempt": 9}}
    assert "created" in tried(place, "author", "create", "--filename=-", stdin=written)
    status = json.dumps({"status": {"attempt": 9}})
    flags = ("patch", "aj/author", "--type=merge", "--patch", status)
    tried(place, "author", *flags)
    assert "forbidden" in tried(place, "author", *flags, "--subresource=status")
    assert place.kubectl("get", "aj/author", "--output=jsonpath={.status}") == ""
