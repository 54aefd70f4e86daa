"""The test bed itself: what it gives, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import FAKE_NODES, Kubectl, fresh_namespace
from tests.cluster.testbed import beds, images, kwok
from tests.cluster.testbed.cluster import Cluster
from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.holding import is_served
from tests.cluster.testbed.places import PROJECT, Place
from tests.cluster.testbed.processes import TestbedFailed, living, process_with, wait_until

pytestmark = pytest.mark.cluster


def test_the_control_plane_answers(kubectl: Kubectl) -> None:
    assert kubectl("get", "--raw", "/readyz") == "ok"


def test_the_fake_nodes_are_there(fake_nodes: list[str]) -> None:
    assert len(fake_nodes) == FAKE_NODES


def run_fake_pod(kubectl: Kubectl, namespace: str) -> None:
    """Have a pod run on a fake node."""
    container = {"name": "main", "image": images.BASE}
    fake = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "fake"},
        "spec": {"containers": [container], **kwok.PLACEMENT},
    }
    kubectl("--namespace", namespace, "apply", "--filename=-", stdin=json.dumps(fake))
    phase = "--for=jsonpath={.status.phase}=Running"
    kubectl("--namespace", namespace, "wait", phase, "--timeout=120s", "pod/fake")


@pytest.mark.usefixtures("fake_nodes")
def test_a_pod_on_a_fake_node_runs(kubectl: Kubectl, namespace: str) -> None:
    run_fake_pod(kubectl, namespace)


def test_kwok_ends_no_pod_that_only_has_the_name_of_one_that_is_gone(
    control_plane: ControlPlane,
) -> None:
    """Its late or repeated deletion, which names no uid, is refused."""
    kubectl = control_plane.cluster.kubectl
    as_kwok = Cluster(control_plane.kwok_kubeconfig, control_plane.cluster.program).kubectl
    with fresh_namespace(kubectl) as namespace:
        run_fake_pod(kubectl, namespace)
        with pytest.raises(TestbedFailed, match="no pod but one that is terminating"):
            as_kwok("--namespace", namespace, "delete", "pod", "fake", "--now")
        kubectl("--namespace", namespace, "delete", "pod", "fake", "--timeout=120s")


def test_the_job_is_a_kind_the_cluster_knows(kubectl: Kubectl, crd: str) -> None:
    assert crd in kubectl("get", "crd", "--output=name")


KILLED_HOLDER = r"""
import os, sys
from tests.cluster.testbed import beds
from tests.cluster.testbed.places import Place
with beds.control_plane(Place(sys.argv[1]), fake_nodes=0) as plane:
    print(plane.place.folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_holder_leaves_no_process_and_no_folder() -> None:
    name = f"killed-{uuid.uuid4().hex[:8]}"
    holder = subprocess.run(
        [sys.executable, "-c", KILLED_HOLDER, name],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert holder.returncode == -signal.SIGKILL, holder.stderr
    place = Place(name)
    assert holder.stdout.strip() == str(place.folder)
    wait_until(lambda: not is_served(place), what="the end of the bed", seconds=240)
    assert not place.folder.exists()
    assert processes_of(place) == []


@pytest.mark.node
@pytest.mark.usefixtures("node_possible")
def test_a_killed_supervisor_of_a_node_leaves_no_process_and_is_swept() -> None:
    place = Place(f"killed-{uuid.uuid4().hex[:8]}")
    beds.keep_up(place, fake_nodes=0, with_node=True)
    try:
        for pid in supervisors_of(place.node):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: processes_of(place.node) == [], what="the end of the node", seconds=240)
    finally:
        beds.bring_down(place)
    assert processes_of(place) == []
    assert [path for path in place.node.cgroups() if path.exists()] == []
    assert not place.node.folder.exists()


def test_of_two_processes_with_an_environment_the_first_is_found() -> None:
    word = uuid.uuid4().hex
    command, env = ["sleep", "600"], os.environ | {"TESTBED_WORD": word}
    with subprocess.Popen(command, env=env) as one, subprocess.Popen(command, env=env) as other:
        try:
            assert process_with(TESTBED_WORD=word) == one.pid
        finally:
            one.kill()
            other.kill()
    with pytest.raises(TestbedFailed, match="must be there"):
        process_with(TESTBED_WORD=word)


def processes_of(place: Place) -> list[str]:
    """The command lines that name the place's folder."""
    return [line for _, line in command_lines() if f"{place.folder}/" in line]


def supervisors_of(place: Place) -> list[int]:
    return [
        pid
        for pid, line in command_lines()
        if "serve-node" in line and place.name.removesuffix(".node") in line
    ]


def command_lines() -> Iterator[tuple[int, str]]:
    for one in living():
        yield one.pid, b" ".join(one.read("cmdline")).decode(errors="replace")
