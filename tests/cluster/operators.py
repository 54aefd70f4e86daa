"""Operators as processes against the test bed, and what stands in for a training in its pods."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acceleratedjob import api
from acceleratedjob.kube.connection import Connection, connect, load_configuration
from acceleratedjob.kube.objects import collection
from acceleratedjob.status import format_time

Script = Callable[[int, int], int | None]  # (attempt, index) -> exit code, or None: runs on


def start_operator(
    kubeconfig: Path, log: Path, namespace: str, *flags: str
) -> "subprocess.Popen[bytes]":
    """An operator process that serves one namespace."""
    command = [sys.executable, "-m", "acceleratedjob", "operator", "--namespace", namespace, *flags]
    env = os.environ | {"KUBECONFIG": str(kubeconfig)}
    with log.open("ab") as output:
        return subprocess.Popen(command, env=env, stdout=output, stderr=output)


@contextlib.contextmanager
def operator(kubeconfig: Path, log: Path, namespace: str) -> Iterator["subprocess.Popen[bytes]"]:
    """An operator that is asked to end at the end."""
    process = start_operator(kubeconfig, log, namespace)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()[-3000:]


@contextlib.asynccontextmanager
async def connection(kubeconfig: Path) -> AsyncIterator[Connection]:
    """A connection as the administrator."""
    configuration = await load_configuration(str(kubeconfig), None)
    async with connect(configuration) as opened:
        yield opened


async def list_objects(link: Connection, kind: str, namespace: str) -> list[Any]:
    """All objects of a kind in a namespace."""
    answer = await link.request("GET", collection(kind, namespace))
    return list(answer["items"])


async def play(link: Connection, namespace: str, script: Script) -> None:
    """End the training in fake pods as the script says, once a whole gang runs."""
    while True:
        gangs: dict[tuple[str, int], list[Any]] = defaultdict(list)
        for pod in await list_objects(link, "Pod", namespace):
            attempt, _ = api.parse_pod_name(pod["metadata"]["name"]) or (0, 0)
            if pod["status"].get("phase") == "Running" and not pod["metadata"].get(
                "deletionTimestamp"
            ):
                gangs[pod["metadata"]["labels"][api.JOB_NAME_LABEL], attempt].append(pod)
        for pods in gangs.values():
            await _end(link, namespace, pods, script)
        await asyncio.sleep(0.05)


async def _end(link: Connection, namespace: str, pods: list[Any], script: Script) -> None:
    env = {e["name"]: e["value"] for e in pods[0]["spec"]["containers"][0]["env"]}
    if len(pods) < int(env["ACCELERATEDJOB_REPLICAS"]):
        return
    for pod in pods:
        attempt, index = api.parse_pod_name(pod["metadata"]["name"]) or (0, 0)
        code = script(attempt, index)
        if code is not None:
            await end_pod(link, namespace, pod["metadata"]["name"], code)


async def end_pod(
    link: Connection, namespace: str, name: str, code: int, message: str = ""
) -> None:
    """Report that a pod's training container has ended."""
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
    await link.request("PATCH", path, {"status": status}, content_type=merge)
