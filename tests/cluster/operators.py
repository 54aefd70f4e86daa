"""Operators as processes against the test bed, and what stands in for a training in its pods."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Change, Gone, Listed
from acceleratedjob.errors import ClusterError
from acceleratedjob.kube.client import Connection, connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from acceleratedjob.kube.limits import Limit
from tests.cluster.programs import Program, start
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.processes import living

END_SECONDS = 240  # to end in; an operator ends itself after 21
Script = Callable[[int, int], int | None]  # (attempt, index) -> exit code, or None: runs on


def start_operator(kubeconfig: Path, log: Path, namespace: str, *flags: str) -> Program:
    """An operator process that serves one namespace."""
    arguments = ("operator", "--namespace", namespace, *flags)
    return start("acceleratedjob", arguments, os.environ | {"KUBECONFIG": str(kubeconfig)}, log)


@contextlib.contextmanager
def operator(kubeconfig: Path, log: Path, namespace: str) -> Iterator[Program]:
    """An operator that is asked to end at the end."""
    process = start_operator(kubeconfig, log, namespace)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0, log.read_text()[-3000:]


@contextlib.contextmanager
def operator_on_node(node: Node, log: Path, namespace: str) -> Iterator[None]:
    """An operator that reaches the addresses of pods: it runs in the network of the node."""
    folder = node.plane.place.node.folder
    enter = ("nsenter", f"--target={_kubelet(folder)}", "--net", "--", sys.executable)
    serve = ("-m", "acceleratedjob", "operator", f"--kubeconfig={folder}/admin.conf")
    with log.open("w") as out:
        process = subprocess.Popen(
            [*enter, *serve, "--namespace", namespace], stdout=out, stderr=out
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0, log.read_text()[-3000:]


def _kubelet(folder: Path) -> int:
    """The process of the kubelet of a node, in whose network are the pods."""
    flag = f"--kubeconfig={folder}/node.conf".encode()
    found = [one.pid for one in living() if flag in one.read("cmdline")]
    assert found, flag
    return found[0]


@contextlib.asynccontextmanager
async def connection(kubeconfig: Path, limit: Limit | None = None) -> AsyncIterator[Connection]:
    """A connection as the administrator."""
    configuration = await load_configuration(str(kubeconfig), None)
    async with connect(configuration, limit) as opened:
        yield opened


async def list_objects(link: Connection, kind: str, namespace: str) -> list[Any]:
    """All objects of a kind in a namespace."""
    answer = await link.request("GET", collection(kind, namespace))
    return list(answer["items"])


@dataclass(slots=True)
class Trainings:
    """What runs in the fake pods of a namespace."""

    running: dict[str, Any] = field(default_factory=dict)  # pods by uid
    whole: set[tuple[str, str]] = field(default_factory=set)  # gangs whose pods have all run
    ended: set[str] = field(default_factory=set)  # uids of pods that were said to have ended

    def take(self, change: Change) -> None:
        """Know what a watch tells."""
        if isinstance(change, Listed):
            self.running.clear()
        for pod in change.objects if isinstance(change, Listed) else [change.object]:
            if isinstance(change, Gone) or not _runs(pod):
                self.running.pop(pod["metadata"]["uid"], None)
            else:
                self.running[pod["metadata"]["uid"]] = pod

    def due(self) -> list[Any]:
        """The pods that run, and whose gang runs or has run whole."""
        gangs: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        for pod in self.running.values():
            gangs[_gang(pod)].append(pod)
        self.whole |= {gang for gang, pods in gangs.items() if len(pods) == _size(pods[0])}
        found = (pod for gang in gangs.keys() & self.whole for pod in gangs[gang])
        return [pod for pod in found if pod["metadata"]["uid"] not in self.ended]


def _runs(pod: Any) -> bool:
    is_leaving = "deletionTimestamp" in pod["metadata"]
    return pod["status"].get("phase") == "Running" and not is_leaving


def _gang(pod: Any) -> tuple[str, str]:
    """A pod's job, by its uid, and its attempt."""
    labels = pod["metadata"]["labels"]
    return labels[names.JOB_UID_LABEL], labels[names.ATTEMPT_LABEL]


def _size(pod: Any) -> int:
    """How many pods a pod's gang has."""
    env = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    return int(env["ACCELERATEDJOB_REPLICAS"])


@contextlib.asynccontextmanager
async def playing(link: Connection, namespace: str, script: Script) -> AsyncIterator[None]:
    """Play inside the block."""
    task = asyncio.create_task(play(link, namespace, script))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def play(link: Connection, namespace: str, script: Script) -> None:
    """End the training in fake pods as the script says, once a whole gang runs; until cancelled."""
    trainings = Trainings()
    following = asyncio.create_task(_follow(link, namespace, trainings))
    try:
        while not following.done():
            for pod in trainings.due():
                await _play_one(link, namespace, pod, script, trainings)
            await asyncio.sleep(0.05)
        await following
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)  # its connection is open till then


async def _follow(link: Connection, namespace: str, trainings: Trainings) -> None:
    async for change in KubernetesCluster(link, namespace).watch("Pod"):
        trainings.take(change)


async def _play_one(
    link: Connection, namespace: str, pod: Any, script: Script, trainings: Trainings
) -> None:
    """End a pod, if the script does; one that cannot be told so now runs on for a while."""
    metadata = pod["metadata"]
    attempt, index = names.parse_pod_name(metadata["name"]) or (0, 0)
    code = script(attempt, index)
    if code is not None:
        with contextlib.suppress(ClusterError):
            await end_pod(link, namespace, metadata["name"], code, uid=metadata["uid"])
            trainings.ended.add(metadata["uid"])


async def end_pod(
    link: Connection, namespace: str, name: str, code: int, message: str = "", *, uid: str = ""
) -> None:
    """Report that a pod's training container has ended; with a uid, no other of its name."""
    ended = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "finishedAt": format_time(datetime.now(UTC)),
        "message": message,
    }
    container = {
        "name": "trainer",
        "image": "x",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
    path = f"{collection('Pod', namespace)}/{name}/status"
    merge = "application/merge-patch+json"
    change = {"status": status} | ({"metadata": {"uid": uid}} if uid else {})
    await link.request("PATCH", path, change, content_type=merge)
