"""Measures what jobs cost that train: requests for their progress, and writes of their status.

All fake pods have the address of this machine, where one server answers for all of them.
"""

import asyncio
import json
import time
from typing import Any

from aiohttp import ClientSession, web

from bench.case import Size
from bench.operator import apiserver, waiting
from bench.operator.apiserver import Traffic
from bench.operator.bed import Bed
from bench.operator.client import Client, encoded
from bench.operator.measures import Facts, named, serving
from bench.operator.serving import Handler, served
from bench.operator.ways import JOBS, PODS, Server, Way

ADDRESS = "127.0.0.1"
STEPS_PER_SECOND = 10  # the step tells when an answer was given
_TOTAL = 10**6
_LOOKS = 10  # how often the statuses are read while the costs are measured
_MINUTE = 60


def training(began: float) -> Handler:
    """Return what answers for all jobs, and tells at another path how often it was asked.

    Args:
        began: when the step was 0, by the clock of this machine.
    """
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        if request.path != "/progress":
            return web.json_response(asked)
        asked += 1
        return web.Response(body=told(time.time() - began), content_type="application/json")

    return answer


def told(seconds: float) -> bytes:
    """Return an answer of the usual size of a small job: 8 ranks, and 10 checkpoints."""
    step = int(seconds * STEPS_PER_SECOND)
    saved = {"step": step, "tier": "storage", "time": "2026-01-01T00:00:00Z", "seconds": 0.1}
    lost = {"starting": 3.0, "loading": 2.0, "redone": 0.0, "checkpoint": 1.0, "hang": 0.0}
    known = {
        "name": "digits",
        "attempt": 0,
        "life": 0,
        "epoch": 1,
        "epochs": 10,
        "step": step,
        "totalSteps": _TOTAL,
        "samplesPerSecond": 1000.5,
        "stepSeconds": 0.1,
        "loss": 1 / step,
        "percent": 100 * step // _TOTAL,
        "etaSeconds": 100.0,
        "checkpoint": saved,
        "checkpoints": [saved] * 10,
        "verdicts": [],
        "metrics": {"accuracy": 0.5},
        "goodput": {"ratio": 0.9, "productiveSeconds": step / 10, "lost": lost},
        "losses": [[n, 1 / (n + 1)] for n in range(500)],
        "ranks": [{"rank": rank, "step": step, "phase": "step"} for rank in range(8)],
    }
    return json.dumps(known).encode()


async def trains(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure jobs that train: the requests, the writes and the cost of a minute."""
    began = time.time() - 1
    with served(training, began) as port:
        async with serving(bed, way) as (client, server):
            if server is None:
                raise ValueError(f"{way.name} has no controller to measure")
            await client.create(_posts(way, size, port))
            await waiting.until_running(client, size["jobs"])
            await _have_address(client)
            await _are_written(client, size["jobs"])
            return [await _minute(client, server, size, port, began)]


def _posts(way: Way, size: Size, port: int) -> list[tuple[str, bytes]]:
    """Return the requests that create the jobs, whose progress port is that of the server."""
    made = []
    for name in named(size):
        for path, body in way.posts(name, 1):
            manifest = json.loads(body)
            manifest["spec"]["network"] = {"progressPort": port}
            made.append((path, encoded(manifest)))
    return made


async def _have_address(client: Client) -> None:
    """Give all pods the address of this machine."""
    change = {"status": {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}}
    pods = (await client.get(PODS))["items"]
    async with asyncio.TaskGroup() as group:
        for pod in pods:
            group.create_task(client.merge(f"{PODS}/{pod['metadata']['name']}/status", change))


async def _are_written(client: Client, jobs: int) -> None:
    """Wait until each job shows its progress, because it was written once."""

    async def are() -> bool:
        return sum("progress" in one.get("status", {}) for one in await _jobs(client)) >= jobs

    await waiting.until(are, f"the progress of {jobs} jobs")


async def _minute(client: Client, server: Server, size: Size, port: int, began: float) -> Facts:
    before, cpu, asked = await Traffic.now(client), server.process.cpu(), await _asked(port)
    start, ages = time.monotonic(), []
    for _ in range(_LOOKS):
        await asyncio.sleep(size["seconds"] / _LOOKS)
        now, jobs = time.time() - began, await _jobs(client)
        ages += [now - step / STEPS_PER_SECOND for step in map(_step, jobs) if step is not None]
    share = _MINUTE / (time.monotonic() - start)
    traffic = (await Traffic.now(client)).since(before)
    return {
        "polls": (await _asked(port) - asked) * share,
        "writes": _statuses(traffic) * share,
        "cpu": (server.process.cpu() - cpu) * share,
        "memory": server.process.memory(),
        "age": sorted(ages)[len(ages) // 2],
        "oldest": max(ages),
    }


def _statuses(traffic: Traffic) -> int:
    """Return the writes to jobs; other controllers retry over Endpoints with this address."""
    return sum(n for (_, _, resource, _), n in traffic.writes.items() if resource in apiserver.JOBS)


async def _jobs(client: Client) -> list[Any]:
    found: list[Any] = (await client.get(JOBS))["items"]
    return [one for one in found if one["metadata"]["name"] != waiting.WARM]


def _step(job: Any) -> int | None:
    step: int | None = job["status"].get("progress", {}).get("step")
    return step


async def _asked(port: int) -> int:
    async with ClientSession() as session, session.get(f"http://{ADDRESS}:{port}/asked") as answer:
        return int(await answer.text())
