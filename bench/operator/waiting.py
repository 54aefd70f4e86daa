"""Waits for other processes, by reading from the API server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.operator.bed import Bed
from bench.operator.client import Client
from bench.operator.process import calm
from bench.operator.ways import PODS, Server, Way

POLL = 0.01  # minimum seconds between two counts; later a hundredth of the elapsed time
PATIENCE = 900.0  # the maximum seconds to wait
WARM = "warm"  # the first job, which proves that a controller serves
ENDED = "2026-01-01T00:00:00Z"


class NeverCame(TimeoutError):
    """An expected event has not happened in time."""


async def pods(client: Client) -> int:
    """Return the number of pods, without those of the first job and without reading them all."""
    page: Any = await client.get(PODS, limit="1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0)) - 1


async def until(is_so: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds.

    Raises:
        NeverCame: the condition does not hold in time.
    """
    began = time.monotonic()
    while not await is_so():
        passed = time.monotonic() - began
        if passed > seconds:
            raise NeverCame(f"{what} must be within {seconds:g} s, and is not")
        await asyncio.sleep(max(POLL, passed / 100))


async def until_pods(client: Client, wanted: int, seconds: float = PATIENCE) -> None:
    """Wait until `wanted` pods exist."""

    async def are_there() -> bool:
        return await pods(client) == wanted

    await until(are_there, f"{wanted} pods", seconds)


async def until_running(client: Client, wanted: int) -> None:
    """Wait until `wanted` pods run."""

    async def run() -> bool:
        page = await client.get(PODS, fieldSelector="status.phase=Running")
        return len(page["items"]) == wanted

    await until(run, f"{wanted} pods that run")


async def end_pods(client: Client) -> None:
    """Set the status of all running pods to Succeeded."""
    found = (await client.get(PODS, fieldSelector="status.phase=Running"))["items"]
    await asyncio.gather(*(end_pod(client, pod["metadata"]["name"], 0) for pod in found))


async def end_pod(client: Client, name: str, code: int) -> None:
    """Set the status of a pod to terminated, with an exit code."""
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": ENDED}
    container = {
        "name": "trainer",
        "image": "train:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [container]}
    await client.merge(f"{PODS}/{name}/status", {"status": status})


async def until_jobs(client: Client, way: Way, is_so: Callable[[Any], bool], what: str) -> None:
    """Wait until a condition holds for all jobs."""

    async def holds() -> bool:
        return all(map(is_so, (await client.get(way.path))["items"]))

    await until(holds, f"jobs that are {what}")


async def until_serving(bed: Bed, client: Client, way: Way, server: Server | None) -> None:
    """Wait until a first job has succeeded and the control plane is idle.

    The job and its pod are kept: to delete them, the garbage collector would first have to discover
    the kind of the job, which takes half a minute.
    """
    await client.create(way.posts(WARM, 1))
    await until_running(client, 1)
    await end_pods(client)
    await until_jobs(client, way, way.is_done, "done")
    await until_calm(bed, server)


async def until_calm(bed: Bed, server: Server | None) -> None:
    """Wait until the control plane and the controller are idle."""
    await calm([*bed.busy, *([server.process] if server else [])])
