"""What a person asks on the command line, answered from a real API server."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceleratedjob.local.process import free_port
from tests.cluster.jobs import PYTHON, TRAINING_SECONDS, Job, fake_job, real_job
from tests.cluster.operators import connection, end_pod
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.places import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crd", "fake_nodes")]

ONCE: dict[str, Any] = {"failurePolicy": {"maxRestarts": 0}}


@pytest.fixture
def unserved(testbed: Cluster, namespace: str) -> Job:
    """A namespace that no operator serves."""
    return Job(testbed, namespace)


def start(kubeconfig: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A command, as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "acceleratedjob", *arguments],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_fake_pod(job: Job, pod: str, code: int, message: str = "") -> None:
    """Let a fake pod's training container end."""

    async def go() -> None:
        async with connection(job.cluster.kubeconfig) as link:
            await end_pod(link, job.namespace, pod, code, message)

    asyncio.run(go())


def ask(job: Job, command: str, *arguments: str) -> tuple[int, str, str]:
    """Its exit code, and what it has said, about a job of this namespace."""
    process = start(job.cluster.kubeconfig, command, "-n", job.namespace, *arguments)
    out, errors = process.communicate(timeout=600)
    return process.returncode, out, errors


def test_a_job_that_waits(job: Job) -> None:
    manifest = fake_job(job.namespace)
    manifest["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
    job.apply(manifest)
    job.wait("jsonpath={.status.pending[0].reason}=Unschedulable")
    code, out, errors = ask(job, "why", "digits")
    assert (code, errors) == (0, "")
    assert out.startswith(f"digits in {job.namespace}: Pending, for ")
    assert "  2 pods: Unschedulable, for " in out
    head, _, advice = out.partition("Next\n  - ")
    assert head
    assert "`kubectl describe nodes` shows the free resources" in " ".join(advice.split())


def test_a_job_that_waits_for_its_queue(job: Job) -> None:
    manifest = fake_job(job.namespace)
    manifest["spec"]["template"]["spec"]["schedulingGates"] = [{"name": "queue.io/admission"}]
    job.apply(manifest)
    job.wait("jsonpath={.status.pending[0].reason}=SchedulingGated")
    _, out, _ = ask(job, "why", "digits")
    assert "removes the scheduling gate queue.io/admission" in out


def test_a_job_that_has_failed(job: Job) -> None:
    job.apply(fake_job(job.namespace, **ONCE))
    job.wait("jsonpath={.status.phase}=Running")
    words = '{"exception": "KeyError", "message": "x", "traceback": "at y", "step": 7}'
    end_fake_pod(job, "digits-0-1", 1, words)
    job.wait("condition=Failed")
    code, out, _ = ask(job, "why", "digits")
    assert code == 1
    assert "replica 1, rank 1 (pod digits-0-1 on node kwok-" in out
    assert ", at step 7\n    Error, exit code 1\n    exited with code 1: KeyError: x\n" in out
    assert "    | at y\n" in out
    assert "  MaxRestartsExceeded: Replica 1 " in out


def test_a_quota_is_told_for_all_the_pods_that_are_missing(job: Job) -> None:
    job.kubectl("create", "quota", "few", "--hard=pods=1")
    job.kubectl("wait", "quota/few", "--for=jsonpath={.status.hard.pods}=1", "--timeout=240s")
    job.apply(fake_job(job.namespace, replicas=3))
    job.wait("jsonpath={.status.pending[0].reason}=Refused")
    _, out, _ = ask(job, "why", "digits")
    assert "2 pods: Refused" in out
    assert "    exceeded quota: few" in out


def test_jobs_as_a_table(job: Job) -> None:
    assert ask(job, "status") == (
        0,
        f"No jobs found in namespace {job.namespace}; -A lists all.\n",
        "",
    )
    job.apply(fake_job(job.namespace))
    job.wait("jsonpath={.status.phase}=Running")
    header, row = ask(job, "status")[1].splitlines()
    assert header.split() == [
        *("NAME", "PHASE", "READY", "STEP", "PROGRESS"),
        *("ETA", "GOODPUT", "RESTARTS", "AGE"),
    ]
    assert row.split()[:4] == ["digits", "Running", "2/2", "0"]
    assert ask(job, "status", "digits")[1].splitlines()[1].split()[:3] == row.split()[:3]
    everywhere = ask(job, "status", "-A")[1].splitlines()
    assert [job.namespace, "digits"] in [line.split()[:2] for line in everywhere]


def test_a_job_is_followed_to_its_end(job: Job) -> None:
    job.apply(fake_job(job.namespace, **ONCE))
    job.wait("jsonpath={.status.phase}=Running")
    command = ("status", "-n", job.namespace, "digits", "--watch")
    process = start(job.cluster.kubeconfig, *command)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("NAME ")
    assert process.stdout.readline().split()[:2] == ["digits", "Running"]
    end_fake_pod(job, "digits-0-0", 1)
    out, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (1, "")
    row, note = out.splitlines()[-2:]
    assert row.split()[:2] == ["digits", "Failed"]
    assert note.startswith("  Failed: Replica 0 ")


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        pytest.param(["why", "none"], 3, "job none not found in namespace ", id="why"),
        pytest.param(["status", "none"], 3, "job none not found in namespace ", id="status"),
        pytest.param(
            ["status", "none", "-w"], 3, "job none not found in namespace ", id="to follow"
        ),
        pytest.param(["logs", "none"], 3, "job none not found in namespace ", id="logs"),
        pytest.param(["status", "none", "-A"], 2, "do not use -A with JOB", id="of all namespaces"),
    ],
)
def test_what_is_not_there(unserved: Job, command: list[str], code: int, sentence: str) -> None:
    found, out, errors = ask(unserved, *command)
    assert (found, out) == (code, "")
    assert sentence in errors


def test_the_contexts_namespace_is_the_usual_one(unserved: Job, tmp_path: Path) -> None:
    unserved.apply(fake_job(unserved.namespace))
    config = yaml.safe_load(unserved.cluster.kubeconfig.read_text())
    named = {one["name"]: one["context"] for one in config["contexts"]}
    named[config["current-context"]]["namespace"] = unserved.namespace
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    out, errors = start(file, "why", "digits").communicate(timeout=240)
    assert out.startswith("digits has no status, "), errors


@pytest.mark.parametrize("is_there", [True, False], ids=["nobody listens", "no such file"])
def test_a_cluster_that_cannot_be_reached(unserved: Job, tmp_path: Path, is_there: bool) -> None:
    file = tmp_path / "kubeconfig"
    if is_there:
        config = yaml.safe_load(unserved.cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
        file.write_text(yaml.safe_dump(config))
    process = start(file, "why", "digits")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 4
    assert errors.splitlines()[-1].startswith("acceleratedjob why: ")
    assert "Traceback" not in errors


SCRIPT = """
import os, signal
from runtime import PartialState
print("begins")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
state = PartialState(cpu=True)
state.wait_for_everyone()
if state.process_index == 1:
    raise ValueError("no such file")
signal.pause()
"""


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.usefixtures("node")
def test_the_logs_of_real_pods_and_the_exception_that_one_ends_with(job: Job) -> None:
    manifest = real_job(job.namespace, [PYTHON, "-u", "-c", SCRIPT], **ONCE)
    variable = {"name": "PYTHONPATH", "value": str(PROJECT)}
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [variable]
    job.apply(manifest)
    job.wait("jsonpath={.status.size}=2")  # it may have failed before anyone sees it run
    code, followed, errors = ask(job, "logs", "digits", "--follow", "--rank", "1")
    assert (code, errors) == (0, "")
    assert followed.splitlines()[0] == "begins"
    assert followed.rstrip().endswith("ValueError: no such file")
    job.wait("condition=Failed", seconds=TRAINING_SECONDS)
    job.wait_gone("pod/digits-0-0")
    code, out, errors = ask(job, "logs", "digits", "--color", "always")
    assert (code, errors) == (0, "")
    assert out.splitlines()[0] == "\x1b[33mrank 1 |\x1b[0m begins"
    assert ask(job, "logs", "digits", "--rank", "0")[0] == 3
    code, told, _ = ask(job, "why", "digits")
    assert code == 1
    assert "exited with code 1: ValueError: no such file" in told
    assert "    | ValueError: no such file" in told
    assert ask(job, "logs", "digits", "--rank", "2")[0] == 2
    assert ask(job, "logs", "digits", "--previous-attempt")[0] == 2
