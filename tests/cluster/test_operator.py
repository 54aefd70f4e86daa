"""The operator as a process, against a real API server, with pods on fake nodes."""

import asyncio
import json

import pytest

from tests.cluster.jobs import Job, fake_job
from tests.cluster.operators import connection, end_pod

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

AT_ONCE = {"backoff": {"initialSeconds": 0}}


def end(job: Job, pod: str, code: int) -> None:
    """Let a fake pod's training container end."""

    async def go() -> None:
        async with connection(job.cluster.kubeconfig) as link:
            await end_pod(link, job.namespace, pod, code)

    asyncio.run(go())


def test_a_job_runs_from_apply_to_succeeded_and_leaves_nothing(job: Job) -> None:
    job.apply(fake_job(job.namespace, replicas=3))
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-0-0", "digits-0-1", "digits-0-2"]
    for index in range(3):
        end(job, f"digits-0-{index}", 0)
    job.wait("condition=Complete")
    assert job.get(".status.readyRatio") == "3/3"
    job.kubectl("delete", "aj/digits")
    job.wait_gone("pods,services", "--selector=accelerated.dev/job-name=digits")


def test_kubectl_get_shows_how_a_job_is(job: Job) -> None:
    job.apply(fake_job(job.namespace, failurePolicy=AT_ONCE))
    job.wait("jsonpath={.status.phase}=Running")
    end(job, "digits-0-1", 1)
    job.wait("jsonpath={.status.attempt}=1")
    job.wait("jsonpath={.status.phase}=Running")
    header, row = (line.split() for line in job.kubectl("get", "aj").splitlines())
    assert header[:3] + header[7:] == ["NAME", "PHASE", "READY", "RESTARTS", "AGE"]
    assert row[:4] == ["digits", "Running", "2/2", "1"]
    header, row = (line.split() for line in job.kubectl("get", "aj", "-o", "wide").splitlines())
    assert header[9:] == ["WORLD", "ATTEMPT", "IN-PLACE", "REASON"]
    assert row[5:] == ["2", "1", "0", "Error"]


def test_a_field_of_the_template_that_no_pod_has_is_named(job: Job) -> None:
    manifest = fake_job(job.namespace)
    manifest["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    job.apply(manifest)
    job.wait("condition=Failed")
    told = job.get(".status.conditions[?(@.type=='Failed')].message")
    assert told.startswith("spec.template.spec.containers[0].volumeMount: ")
    assert 'unknown field "spec.containers[0].volumeMount"' in told
    job.wait_gone("pods,services", "--selector=accelerated.dev/job-name=digits")


def test_nothing_is_written_to_the_job_but_its_status(job: Job) -> None:
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    found = json.loads(job.kubectl("get", "aj/digits", "--output=json"))["metadata"]
    assert "finalizers" not in found
    assert set(found["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}


def test_a_deleted_pod_brings_one_new_attempt_that_does_not_count(job: Job) -> None:
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    job.kubectl("delete", "pod/digits-0-1")
    job.wait("jsonpath={.status.attempt}=1")
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-1-0", "digits-1-1"]
    assert job.get(".status.restarts") == "0"
    assert job.get(".status.failures[0].reason") == "PodDeleted"


def test_restarts_used_up_tell_which_replica_and_why(job: Job) -> None:
    job.apply(fake_job(job.namespace, failurePolicy=AT_ONCE | {"maxRestarts": 1}))
    for attempt in range(2):
        job.wait(f"jsonpath={{.status.attempt}}={attempt}")
        job.wait("jsonpath={.status.phase}=Running")
        end(job, f"digits-{attempt}-1", 3)
    job.wait("condition=Failed")
    job.wait_gone("pod/digits-1-0")
    assert job.names("pods") == ["digits-1-1"]
    told = job.get(".status.conditions[?(@.type=='Failed')].message")
    assert told.startswith("Replica 1 (pod digits-1-1 on node kwok-")
    assert told.endswith("exited with code 3; maxRestarts is 1")


def test_the_jobs_rules_decide_what_a_failure_leads_to(job: Job) -> None:
    rules = [
        {"action": "RestartFree", "exitCodes": [7]},
        {"action": "Fail", "exitCodes": [8], "replicaIndexes": [1]},
    ]
    job.apply(fake_job(job.namespace, failurePolicy=AT_ONCE | {"maxRestarts": 0, "rules": rules}))
    job.wait("jsonpath={.status.phase}=Running")
    end(job, "digits-0-0", 7)
    job.wait("jsonpath={.status.attempt}=1")
    job.wait("jsonpath={.status.phase}=Running")
    assert (job.get(".status.restarts"), job.get(".status.failuresInARow")) == ("0", "1")
    end(job, "digits-1-1", 8)
    job.wait("condition=Failed")
    told = job.get(".status.conditions[?(@.type=='Failed')]")
    assert "FailurePolicy" in told
    assert "(spec.failurePolicy.rules[1])" in told


def test_a_job_past_its_deadline_fails_and_is_deleted_in_its_time(job: Job) -> None:
    """Each time is set when the job is as it must be before: none may be over too soon."""
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    job.patch({"activeDeadlineSeconds": 1})
    job.wait("condition=Failed")
    assert "DeadlineExceeded" in job.get(".status.conditions[?(@.type=='Failed')].reason")
    job.patch({"ttlSecondsAfterFinished": 1})
    job.wait_gone("aj/digits")
    job.wait_gone("pods,services", "--selector=accelerated.dev/job-name=digits")


def test_a_job_that_gets_no_nodes_fails_and_says_what_it_waited_for(job: Job) -> None:
    manifest = fake_job(job.namespace)
    manifest["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
    job.apply(manifest)
    job.wait("jsonpath={.status.pending[0].reason}=Unschedulable")
    job.wait("jsonpath={.status.pending[0].count}=2")
    job.patch({"startupDeadlineSeconds": 1})
    job.wait("condition=Failed")
    told = job.get(".status.conditions[?(@.type=='Failed')].message")
    assert told.startswith("0/2 replicas of attempt 0 were up within startupDeadlineSeconds (1)")
    assert "2 wait, Unschedulable: 0/" in told
    job.wait_gone("pods", "--all")


def test_another_controllers_job_is_left_alone(job: Job) -> None:
    theirs = fake_job(job.namespace, name="theirs", managedBy="kueue.x-k8s.io/multikueue")
    job.apply(theirs)
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-0-0", "digits-0-1"]
    assert "status" not in json.loads(job.kubectl("get", "aj/theirs", "--output=json"))


def test_a_job_that_is_over_stays_so(job: Job) -> None:
    job.apply(fake_job(job.namespace, failurePolicy={"maxRestarts": 0}))
    job.wait("jsonpath={.status.phase}=Running")
    end(job, "digits-0-0", 1)
    job.wait("condition=Failed")
    job.wait_gone("pod/digits-0-1")
    job.patch({"suspend": True})
    job.patch({"suspend": False, "failurePolicy": {"maxRestarts": 9}})
    job.apply(fake_job(job.namespace, name="next"))
    job.wait_for("next", "jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-0-0", "next-0-0", "next-0-1"]
    assert job.get(".status.phase") == "Failed"


def test_suspend_and_resume_as_a_queue_does(job: Job) -> None:
    job.apply(fake_job(job.namespace, suspend=True))
    job.wait("condition=Suspended")
    assert job.get(".status.startTime") == ""
    template = json.loads(job.get(".spec.template"))
    labelled = template | {"metadata": {"labels": {"queue": "q"}}}
    job.patch({"suspend": False, "template": labelled})
    job.wait("jsonpath={.status.phase}=Running")
    assert job.get(".status.conditions[?(@.type=='Suspended')].status") == "False"
    assert job.get(".status.startTime")
    labels = job.kubectl("get", "pods", "--output=jsonpath={.items[*].metadata.labels.queue}")
    assert labels == "q q"
    job.patch({"suspend": True, "template": {"metadata": None}})
    job.wait("condition=Suspended")
    job.wait_gone("pods", "--all")
    job.wait("jsonpath={.status.terminating}=0")
    job.patch({"suspend": False})
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-1-0", "digits-1-1"]
    assert job.get(".status.restarts") == "0"
    assert job.kubectl("get", "pods", "--output=jsonpath={.items[*].metadata.labels.queue}") == ""


def test_a_scaled_job_goes_on_in_its_new_size(job: Job) -> None:
    job.apply(fake_job(job.namespace, elastic={"maxReplicas": 3}))
    job.wait("jsonpath={.status.phase}=Running")
    job.kubectl("scale", "aj/digits", "--replicas=3")
    job.wait("jsonpath={.status.attempt}=1")
    job.wait("jsonpath={.status.phase}=Running")
    assert job.names("pods") == ["digits-1-0", "digits-1-1", "digits-1-2"]
    assert (job.get(".status.resizes"), job.get(".status.restarts")) == ("1", "0")
    scale = job.kubectl("get", "--raw", job.path("scale"))
    status = json.loads(scale)["status"]
    assert status["replicas"] == 3
    found = job.kubectl("get", "pods", f"--selector={status['selector']}", "--output=name")
    assert len(found.split()) == 3


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        pytest.param(
            {"dnsPolicy": "Sometimes"},
            "spec.template.spec.dnsPolicy: Pod",
            id="a pod that is no pod",
        ),
        pytest.param(
            {"containers": [{"name": "UPPER", "image": "x"}]},
            "spec.template.spec.containers[0].name: Pod",
            id="a bad name",
        ),
        pytest.param(
            {"containers": [{"name": "a", "image": "x", "env": [{"name": "B=C"}]}]},
            "spec.template.spec.containers[0].env[0].name: Pod",
            id="a bad variable",
        ),
        pytest.param(
            {"containers": [{"name": "a", "image": 7}]},
            "spec.template.spec.containers.image: Pod",
            id="a field of another type",
        ),
    ],
)
def test_a_pod_that_the_api_server_refuses_fails_the_job(
    job: Job, pod: dict[str, object], message: str
) -> None:
    manifest = fake_job(job.namespace)
    manifest["spec"]["template"]["spec"] |= pod
    job.apply(manifest)
    job.wait("condition=Failed")
    told = job.get(".status.conditions[?(@.type=='Failed')]")
    assert "InvalidSpec" in told
    assert message in told
    job.wait_gone("service/digits")
    assert job.names("pods") == []


def test_a_pod_that_a_policy_forbids_fails_the_job(job: Job) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    job.kubectl("label", "namespace", job.namespace, label)
    job.apply(fake_job(job.namespace))
    job.wait("condition=Failed")
    told = job.get(".status.conditions[?(@.type=='Failed')].message")
    assert 'violates PodSecurity "restricted' in told


def test_a_quota_is_told_and_waited_for(job: Job) -> None:
    job.kubectl("create", "quota", "few", "--hard=pods=1")
    job.kubectl("wait", "quota/few", "--for=jsonpath={.status.hard.pods}=1", "--timeout=240s")
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    assert "exceeded quota: few" in job.get(".status.pending[0].message")
    job.kubectl("delete", "quota", "few")
    job.wait("jsonpath={.status.phase}=Running")
