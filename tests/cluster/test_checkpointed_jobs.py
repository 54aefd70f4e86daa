"""Jobs with `spec.checkpoint` on a real API server, and a real node."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.api.status import Status
from tests import enduring
from tests.cluster.jobs import PYTHON, TRAINING_SECONDS, Job, fake_job, real_job
from tests.cluster.operators import operator_on_node
from tests.cluster.scripts.suspended import LAST_STEP
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import NODE_NAME, PROJECT
from tests.cluster.testbed.processes import TestbedFailed, wait_until
from tests.contract.manifests import STORE, TEMPLATE

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd")]

SUSPENDED = PROJECT / "tests" / "cluster" / "scripts" / "suspended.py"
CLAIM = "pvc/digits-checkpoint"
CHANGES = [
    pytest.param({"everySteps": 5}, "may change only while the job is suspended", id="cadence"),
    pytest.param({"path": "b"}, "path may never change", id="path"),
    pytest.param({"uri": "s3://another"}, "uri may never change", id="another store"),
    pytest.param({"uri": None} | TEMPLATE, "volume may never change", id="a volume instead"),
    pytest.param(None, "checkpoint may never be removed", id="nothing instead"),
]


def refused(job: Job, spec: dict[str, Any]) -> str:
    """What the API server has against a change of the job; empty if nothing."""
    try:
        job.patch(spec)
    except TestbedFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_may_change(testbed: Any, namespace: str, change: Any, told: str) -> None:
    job = Job(testbed, namespace)
    job.apply(fake_job(namespace, checkpoint=STORE | {"path": "a"}))
    assert told in refused(job, {"checkpoint": change})
    while_suspended = refused(job, {"suspend": True, "checkpoint": change})
    assert (while_suspended == "") == told.startswith("may change")


def test_checkpoints_may_be_added_to_a_suspended_job(testbed: Any, namespace: str) -> None:
    job = Job(testbed, namespace)
    job.apply(fake_job(namespace))
    assert "may change only while" in refused(job, {"checkpoint": STORE})
    assert refused(job, {"suspend": True, "checkpoint": STORE}) == ""


def has_claim(job: Job) -> bool:
    """Whether the claim is there, and is not being deleted."""
    flags = (
        "--ignore-not-found",
        "--output=jsonpath={.metadata.name}{.metadata.deletionTimestamp}",
    )
    return job.kubectl("get", CLAIM, *flags) == CLAIM.removeprefix("pvc/")


@pytest.mark.usefixtures("fake_nodes")
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_the_claim_is_kept_or_goes_with_the_job(job: Job, policy: str) -> None:
    manifest = fake_job(job.namespace, checkpoint=TEMPLATE | {"reclaimPolicy": policy})
    job.apply(manifest)
    wait_until(lambda: has_claim(job), what="the claim", seconds=240)
    first = job.kubectl("get", CLAIM, "--output=jsonpath={.metadata.uid}")
    job.kubectl("delete", "aj/digits")
    job.wait_gone("pods", "--all")
    if policy == "Delete":
        job.wait_gone(CLAIM)
        return
    job.apply(manifest)  # a later job uses the claim again
    job.wait("jsonpath={.status.phase}=Pending")
    wait_until(lambda: len(job.names("pods")) == 2, what="the pods", seconds=240)
    assert job.kubectl("get", CLAIM, "--output=jsonpath={.metadata.uid}") == first


@pytest.mark.usefixtures("fake_nodes")
def test_a_foreign_claim_is_reported_and_an_invalid_one_fails_the_job(job: Job) -> None:
    spec = TEMPLATE["volume"]["volumeClaimTemplate"]["spec"]
    foreign = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec}
    foreign["metadata"] = {"name": "digits-checkpoint"}
    job.kubectl("create", "--filename=-", stdin=json.dumps(foreign))
    job.apply(fake_job(job.namespace, checkpoint=TEMPLATE))
    told = f"PersistentVolumeClaim {job.namespace}/digits-checkpoint exists and is not this job's"
    wait_until(
        lambda: told in job.get(".status.pending[0].message"), what="the refusal", seconds=240
    )
    assert job.names("pods") == []
    job.kubectl("delete", "aj/digits", CLAIM)
    for wrong in ({"resources": {"requests": {"storage": "-1"}}}, {"storageClass": "nfs"}):
        bad = {"volumeClaimTemplate": {"spec": spec | wrong}}
        job.apply(fake_job(job.namespace, checkpoint={"volume": bad}))
        job.wait("condition=Failed")
        message = job.get(".status.conditions[?(@.type=='Failed')].message")
        (field,) = wrong
        assert message.startswith(f"spec.checkpoint.volume.volumeClaimTemplate.spec.{field}")
        job.kubectl("delete", "aj/digits")


@pytest.fixture
def storage(testbed: Any, namespace: str, tmp_path: Path) -> Iterator[str]:
    """A storage class with one volume, a directory of this machine, which is the node's, too."""
    name, folder = f"class-{namespace}", tmp_path / "volume"
    folder.mkdir()
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": name,
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": str(folder)},
        },
    }
    testbed.kubectl("create", "--filename=-", stdin=json.dumps(volume))
    yield name
    testbed.kubectl("delete", f"pv/{name}", "--wait=false")


@pytest.fixture
def job_on_node(testbed: Any, node: Node, namespace: str, tmp_path: Path) -> Iterator[Job]:
    """A job whose operator asks its pods."""
    with operator_on_node(node, tmp_path / "operator.log", namespace):
        yield Job(testbed, namespace)


class NodeJob:
    """A job whose volume is a directory of this machine."""

    def __init__(self, job: Job, folder: Path, storage: str) -> None:
        self.job, self.folder = job, folder / "volume"
        claim = TEMPLATE["volume"]["volumeClaimTemplate"]["spec"] | {"storageClassName": storage}
        volume = {"volumeClaimTemplate": {"spec": claim}}
        checkpoint = {"volume": volume, "everySteps": enduring.EVERY_STEPS}
        command = [PYTHON, "-m", "runtime.launch", str(enduring.SCRIPT)]
        job.apply(real_job(job.namespace, command, checkpoint=checkpoint, **enduring.SPEC))
        self.uid = job.get(".metadata.uid")

    def status(self) -> Status:
        found = self.job.kubectl("get", f"aj/{self.job.name}", "--output=json")
        return Status.from_manifest(json.loads(found))

    def patch(self, spec: dict[str, Any]) -> None:
        self.job.patch(spec)

    def pods(self) -> list[tuple[str, ...]]:
        columns = "uid:.metadata.uid,ip:.status.podIP,node:.spec.nodeName"
        flags = ("--no-headers", f"--output=custom-columns={columns}")
        rows = self.job.kubectl("get", "pods", *flags)
        return [tuple(row.split()) for row in rows.splitlines()]

    def drain(self) -> None:
        """As an administrator does; the node then takes pods again."""
        selector = f"--pod-selector=accelerated.dev/job-name={self.job.name}"
        flags = ("--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        self.job.kubectl("drain", NODE_NAME, selector, *flags)
        self.job.kubectl("uncordon", NODE_NAME)


def columns(table: str) -> dict[str, str]:
    """The columns of the only row, which may be empty."""
    header, row = table.splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", header)]
    spans = zip(starts, [*starts[1:], None], strict=True)
    return {header[start:end].strip(): row[start:end].strip() for start, end in spans}


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes, if it has the machine for itself
def test_a_job_that_is_disturbed_in_all_ways_ends_with_the_same_weights(
    job_on_node: Job, storage: str, tmp_path: Path
) -> None:
    made = NodeJob(job_on_node, tmp_path, storage)
    with enduring.all_ends(made):
        enduring.is_killed(made)
        if enduring.ARE_ALL_TOLD:
            enduring.is_suspended_and_resumed(made)
        enduring.is_drained(made)
        enduring.hangs(made)
        enduring.ends(made)
    enduring.every_sample_counts_once(made)
    assert enduring.weights(made.folder) == enduring.undisturbed(tmp_path / "usual")
    shown = columns(job_on_node.kubectl("get", "aj"))
    assert (shown["PHASE"], shown["STEP"], shown["PROGRESS"]) == (
        "Succeeded",
        f"{enduring.STEPS}",
        "100%",
    )
    assert (shown["RESTARTS"], shown["GOODPUT"][-1]) == ("2", "%")
    events = job_on_node.kubectl("get", "events", "--output=jsonpath={.items[*].reason}").split()
    assert {"RestartedInPlace", "Restarting", "Hang", "Succeeded"} <= set(events)


@contextmanager
def watched(job: Job, file: Path) -> Iterator[None]:
    """All states of the pods are written to a file, from before the block until they are gone."""
    flags = ("--kubeconfig", str(job.cluster.kubeconfig), "--namespace", job.namespace)
    watch = ("get", "pods", "--watch", "--output-watch-events", "--output=json")
    with (
        file.open("wb") as out,
        subprocess.Popen([job.cluster.program, *flags, *watch], stdout=out) as process,
    ):

        def has(event: str) -> bool:
            told = [
                one["object"]["metadata"]["name"] for one in events(file) if one["type"] == event
            ]
            return {"digits-0-0", "digits-0-1"} <= set(told)

        try:
            wait_until(lambda: has("ADDED"), what="the watch", seconds=240)
            yield
            wait_until(lambda: has("DELETED"), what="the end of the pods", seconds=TRAINING_SECONDS)
        finally:
            process.terminate()


def events(file: Path) -> list[dict[str, Any]]:
    """The events that were written, in order; the last one may not be whole yet."""
    text, found, at = file.read_text(), [], 0
    with suppress(json.JSONDecodeError):
        while at < len(text):
            one, end = json.JSONDecoder().raw_decode(text, at)
            found.append(one)
            at = end + 1
    return found


def ended_with(pod: dict[str, Any]) -> dict[str, Any]:
    """How the training container of a pod ended; empty if it has not."""
    (status,) = pod["status"].get("containerStatuses") or [{"state": {}}]
    return status["state"].get("terminated") or {}


def undisturbed(folder: Path) -> str:
    """The bits of the weights when the same script runs to its end."""
    command = [PYTHON, "-m", "runtime.launch", "--nproc-per-node", "2", str(SUSPENDED)]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return bits_in(done.stdout)


def bits_in(log: str) -> str:
    (bits,) = set(re.findall(r"^bits .*$", log, re.MULTILINE))
    return str(bits)


def runs_slowly(job: Job, storage: str) -> None:
    """Have a job that has done a few steps."""
    claim = TEMPLATE["volume"]["volumeClaimTemplate"]["spec"] | {"storageClassName": storage}
    checkpoint = {"volume": {"volumeClaimTemplate": {"spec": claim}}, "everySteps": 1000}
    command = [PYTHON, "-m", "runtime.launch", str(SUSPENDED)]
    manifest = real_job(job.namespace, command, checkpoint=checkpoint)
    pods = manifest["spec"]["template"]["spec"]
    pods["terminationGracePeriodSeconds"] = 240  # to end a process takes long on a busy machine
    job.apply(manifest)
    job.wait("jsonpath={.status.phase}=Running", seconds=240)
    wait_until(
        lambda: "step 4\n" in job.kubectl("logs", "digits-0-1"),
        what="the fourth step",
        seconds=TRAINING_SECONDS,
    )


def stopped_at(seen: list[dict[str, Any]]) -> int:
    """The step at which all pods have stopped, with the exit code for that."""
    ends = {pod["metadata"]["name"]: end for pod in seen if (end := ended_with(pod))}
    codes = {name: end["exitCode"] for name, end in ends.items()}
    assert codes == {"digits-0-0": 143, "digits-0-1": 143}
    (step,) = {json.loads(end["message"])["stopped"]["step"] for end in ends.values()}
    return int(step)


def is_replica_0_last(seen: list[dict[str, Any]]) -> bool:
    """Whether the pod of replica 1 was deleted, and that of replica 0 when one had ended."""
    first = next(one for one in seen if "deletionTimestamp" in one["metadata"])
    ended = next(one for one in seen if ended_with(one))
    main = [one for one in seen if one["metadata"]["name"] == "digits-0-0"]
    deleted = next(one for one in main if "deletionTimestamp" in one["metadata"])
    return first["metadata"]["name"] == "digits-0-1" and seen.index(ended) <= seen.index(deleted)


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suspended_job_stops_with_its_step_replica_0_last_and_goes_on_with_equal_bits(
    job_on_node: Job, storage: str, tmp_path: Path
) -> None:
    runs_slowly(job_on_node, storage)
    with watched(job_on_node, tmp_path / "pods"):
        job_on_node.patch({"suspend": True})
        job_on_node.wait("condition=Suspended", seconds=TRAINING_SECONDS)
    seen = [one["object"] for one in events(tmp_path / "pods")]
    step = stopped_at(seen)
    assert 4 <= step < LAST_STEP
    assert is_replica_0_last(seen)
    job_on_node.patch({"suspend": False})
    job_on_node.wait("condition=Complete", seconds=TRAINING_SECONDS)
    expected = undisturbed(tmp_path)
    for index in range(2):
        log = job_on_node.kubectl("logs", f"digits-1-{index}")
        done = [int(one) for one in re.findall(r"attempt 1 step (\d+)$", log, re.MULTILINE)]
        assert done == list(range(step + 1, LAST_STEP + 1))
        assert bits_in(log) == expected
    assert job_on_node.get(".status.restarts") in ("", "0")


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not enduring.ARE_ALL_TOLD, reason="ACCELERATEDJOB_STORMS is not set: told by a local run"
)
def test_a_job_that_is_resized_reads_each_sample_once(
    job_on_node: Job, storage: str, tmp_path: Path
) -> None:
    made = NodeJob(job_on_node, tmp_path, storage)
    with enduring.all_ends(made):
        enduring.grows_and_shrinks(made)
        enduring.ends(made)
    enduring.every_sample_counts_once(made)
