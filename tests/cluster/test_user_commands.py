"""The commands for a running training, with real pods: follow, look, stop and resume."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.jobs import PYTHON, Job, real_job
from tests.cluster.operators import operator_on_node
from tests.cluster.test_commands import ask, start
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.places import PROJECT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.usefixtures("crd"),
]

SCRIPT = PROJECT / "tests" / "cluster" / "scripts" / "steady.py"


@pytest.fixture
def training(testbed: Cluster, namespace: str, node: Node, tmp_path: Path) -> Iterator[Job]:
    """A training with checkpoints, and an operator in the network of the pods, which asks them."""
    (tmp_path / "volume").mkdir()
    volume = {"hostPath": {"path": str(tmp_path / "volume")}}
    checkpoint = {"volume": volume, "path": "team/digits", "everySteps": 20}
    job = Job(testbed, namespace)
    job.apply(real_job(namespace, [PYTHON, str(SCRIPT)], checkpoint=checkpoint))
    with operator_on_node(node, tmp_path / "log", namespace):
        yield job


@pytest.fixture
def follow(training: Job) -> Iterator[subprocess.Popen[str]]:
    """Somebody who follows the training."""
    place = ("-n", training.namespace)
    with start(training.cluster.kubeconfig, "status", *place, "digits", "--watch") as process:
        yield process
        process.kill()


def said(job: Job, command: str, *arguments: str) -> str:
    """What a command has printed, that had nothing to complain of, but may have waited."""
    code, out, errors = ask(job, command, "digits", *arguments)
    assert code == 0, errors
    assert all(line.startswith("waiting ") for line in errors.splitlines())
    return out


def test_a_training_is_followed_looked_at_stopped_and_resumed(
    training: Job, follow: subprocess.Popen[str]
) -> None:
    training.wait("jsonpath={.status.checkpoint.tier}=storage", seconds=400)
    assert follow.stdout is not None
    assert follow.stdout.readline().split()[3:5] == ["STEP", "PROGRESS"]
    lines = (line.split() for line in follow.stdout)
    assert any(re.fullmatch(r"\d+/10000", line[3]) for line in lines if len(line) > 6)

    stacks = said(training, "dump")
    assert re.findall("^replica .*", stacks, re.MULTILINE) == [
        f"replica {index} (pod digits-0-{index})" for index in range(2)
    ]
    assert stacks.count(f"{SCRIPT}:") >= 2
    where, _, *saved = said(training, "checkpoints").splitlines()
    assert where == "/checkpoints/team/digits"
    whole = re.compile(r"  checkpoint_\d+ +\d+ +\w+ +[\d.]+ KiB +complete")
    assert any(map(whole.fullmatch, saved))  # the newest one may be written now

    stopped = said(training, "stop", "--timeout", "200")
    assert re.search(
        r"is stopped at step \d+ of 10000\n  kept: the checkpoint of step \d+,", stopped
    )
    assert training.names("pods") == []
    assert said(training, "stop").splitlines()[0] == stopped.splitlines()[0]
    assert "  the newest known one: step " in said(training, "checkpoints")
    step = int(training.get(".status.checkpoint.step"))

    resumed = said(training, "resume", "--wait", "--timeout", "400")
    found = re.fullmatch(r"digits goes on in attempt 1 at step (\d+) of 10000\n", resumed)
    assert found is not None
    assert int(found[1]) >= step  # it may be asked before its first step
    training.kubectl("delete", "aj/digits", "--wait=false")
    assert follow.communicate(timeout=240)[1].endswith("digits was deleted\n")
    assert follow.returncode == 3
