"""Waits for what other processes do, by looking at the API server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.operator.bed import Bed
from bench.operator.client import Client
from bench.operator.process import calm
from bench.operator.ways import PODS, Server, Way

POLL = 0.01  # seconds between two counts, or a hundredth of the time that has passed
PATIENCE = 900.0  # seconds; then something is wrong
WARM = "warm"  # the job that shows that a controller serves
ENDED = "2026-01-01T00:00:00Z"


class NeverCame(TimeoutError):
    """What must happen has not happened."""


async def pods(client: Client) -> int:
    """How many there are, without reading them, but for the first job's."""
    page: Any = await client.get(PODS, limit="1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0)) - 1


async def until(is_so: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    """Return when it is so.

    Raises:
        NeverCame: it is not, for too long.
    """
    began = time.monotonic()
    while not await is_so():
        passed = time.monotonic() - began
        if passed > seconds:
            raise NeverCame(f"{what} must be within {seconds:g} s, and is not")
        await asyncio.sleep(max(POLL, passed / 100))


async def until_pods(client: Client, wanted: int, seconds: float = PATIENCE) -> None:
    """Return when there are so many pods."""

    async def are_there() -> bool:
        return await pods(client) == wanted

    await until(are_there, f"{wanted} pods", seconds)


async def until_running(client: Client, wanted: int) -> None:
    """Return when so many pods run."""

    async def run() -> bool:
        page = await client.get(PODS, fieldSelector="status.phase=Running")
        return len(page["items"]) == wanted

    await until(run, f"{wanted} pods that run")


async def end_pods(client: Client) -> None:
    """Report of all pods that run that their containers have ended."""
    found = (await client.get(PODS, fieldSelector="status.phase=Running"))["items"]
    await asyncio.gather(*(end_pod(client, pod["metadata"]["name"], 0) for pod in found))


async def end_pod(client: Client, name: str, code: int) -> None:
    """Report of a pod that its container has ended."""
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
    """Return when something holds of all jobs."""

    async def holds() -> bool:
        return all(map(is_so, (await client.get(way.path))["items"]))

    await until(holds, f"jobs that are {what}")


async def until_serving(bed: Bed, client: Client, way: Way, server: Server | None) -> None:
    """Return when a first job has come and gone by, and nothing is done any more.

    It has succeeded and stays, as does its pod: to delete them, the garbage collector would first
    have to learn of the job's kind, which takes it half a minute.
    """
    await client.create(way.posts(WARM, 1))
    await until_running(client, 1)
    await end_pods(client)
    await until_jobs(client, way, way.is_done, "done")
    await until_calm(bed, server)


async def until_calm(bed: Bed, server: Server | None) -> None:
    """Return when control plane and controller are at rest."""
    await calm([*bed.busy, *([server.process] if server else [])])
