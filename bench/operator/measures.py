"""The measurements: each takes a new control plane, a way and a size, and returns facts."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from acceleratedjob.controller.batches import Work, slow_start, together
from bench.case import Size
from bench.operator import waiting
from bench.operator.apiserver import Traffic
from bench.operator.bed import Bed
from bench.operator.client import WHOLE, Client, Event, Post, connected
from bench.operator.ways import PODS, Server, Way

Facts = Mapping[str, float]  # measured values by name
Measure = Callable[[Bed, Way, Size], Coroutine[Any, Any, list[Facts]]]
Start = Callable[[Sequence[Work]], Awaitable[None]]

TRAINS = 6.0  # seconds that a job runs; longer than any controller delays a write


@contextlib.asynccontextmanager
async def serving(bed: Bed, way: Way) -> AsyncIterator[tuple[Client, Server | None]]:
    """Start the controller of a way, and yield a client and the controller once it serves."""
    with way.serve(bed) as server:
        async with connected(bed.plane) as client:
            await waiting.until_serving(bed, client, way, server)
            yield client, server


def named(size: Size) -> list[str]:
    """Return the names of the jobs of a size."""
    return [f"job{number}" for number in range(size.get("jobs", 1))]


def posts(way: Way, size: Size) -> list[Post]:
    """Return the requests that create the jobs of a size."""
    return [one for name in named(size) for one in way.posts(name, size["pods"])]


async def burst(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure jobs that are created at once: the time until their pods exist, and the cost."""
    jobs = posts(way, size)
    wanted = len(named(size)) * size["pods"]
    async with serving(bed, way) as (client, server), connected(bed.plane) as eye:
        before = await Traffic.now(client)
        cpu = server.process.cpu() if server else 0.0
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(client.create(jobs))
            made = await _made(eye, wanted, way.patience)
        seconds = time.perf_counter() - began
        facts = {"seconds": seconds, "rate": made / seconds, "pods": float(made)}
        if server is None or made < wanted:
            return [facts]
        await waiting.until_calm(bed, server)
        traffic = (await Traffic.now(client)).since(before)
        return [facts | _costs(server, cpu) | _writes(traffic, len(named(size)))]


async def _made(eye: Client, wanted: int, patience: float | None) -> int:
    """Return the number of pods when all exist, or after `patience` seconds."""
    try:
        await waiting.until_pods(eye, wanted, patience or waiting.PATIENCE)
    except waiting.NeverCame:
        if patience is None:
            raise
        return await waiting.pods(eye)
    return wanted


def _costs(server: Server, cpu: float) -> dict[str, float]:
    found = {"cpu": server.process.cpu() - cpu, "memory": server.process.peak()}
    delay = server.queue_delay()
    return found if delay is None else found | {"delay": delay}


def _writes(traffic: Traffic, jobs: int) -> dict[str, float]:
    return {
        "writes": traffic.of_controllers() / jobs,
        "all": traffic.at_all() / jobs,
        "bytes": traffic.body_bytes() / jobs,
    }


async def lifetime(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure the writes to the API server from the creation of jobs until they have succeeded."""
    async with serving(bed, way) as (client, server):
        before = await Traffic.now(client)
        await client.create(posts(way, size))
        await waiting.until_running(client, len(named(size)) * size["pods"])
        await asyncio.sleep(TRAINS)
        await waiting.end_pods(client)
        await waiting.until_jobs(client, way, way.is_done, "done")
        await waiting.until_calm(bed, server)
        traffic = (await Traffic.now(client)).since(before)
    parts = {
        "pods": traffic.of_kind(verb="POST", resource="pods"),
        "services": traffic.of_kind(verb="POST", resource="services"),
        "events": _events(traffic),
    }
    jobs = len(named(size))
    return [_writes(traffic, jobs) | {name: n / jobs for name, n in parts.items()}]


def _events(traffic: Traffic) -> int:
    return sum(
        n for (_, group, kind, _), n in traffic.writes.items() if (group, kind) == ("", "events")
    )


async def first_pod(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure the time from the creation of a job on an idle cluster until its first pod exists."""
    facts: list[Facts] = []
    async with serving(bed, way) as (client, server):
        for name in named(size):
            async with client.watch(PODS) as changes:
                began = time.perf_counter()
                await client.create(way.posts(name, size["pods"]))
                await _added(changes, 1)
                facts.append({"first": time.perf_counter() - began})
            await waiting.until_calm(bed, server)
    return facts


async def creation(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure the creation of the pods of a job: all at once, and by a slow start."""
    facts: list[Facts] = []
    async with serving(bed, way) as (client, server):
        await _created(client, way, "first", size["pods"], together)  # opens the connections
        await waiting.until_calm(bed, server)
        for turn, name in enumerate(named(size)):
            order = list(_STARTS)[:: -1 if turn % 2 else 1]
            taken = {
                start: await _created(client, way, f"{name}-{start}", size["pods"], _STARTS[start])
                for start in order
            }
            facts.append(taken | {"times": taken["doubling"] / taken["together"]})
            await waiting.until_calm(bed, server)
    return facts


_STARTS = {"together": together, "doubling": slow_start}


async def _created(client: Client, way: Way, name: str, pods: int, start: Start) -> float:
    """Return the seconds until all pods of a job are created."""
    works = [functools.partial(client.create, [post]) for post in way.posts(name, pods)]
    began = time.perf_counter()
    await start(works)
    return time.perf_counter() - began


async def _added(changes: AsyncIterator[Event], wanted: int) -> None:
    """Wait until `wanted` objects have been added."""
    seen = 0
    while seen < wanted:
        seen += (await anext(changes))["type"] == "ADDED"


async def restart(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure the time from the failure of a pod until the last pod of the next attempt exists."""
    async with serving(bed, way) as (client, server):
        await client.create(posts(way, size))
        await waiting.until_running(client, size["pods"])
        await waiting.until_jobs(client, way, _runs, "running")
        await waiting.until_calm(bed, server)
        async with client.watch(PODS, labelSelector="accelerated.dev/attempt=1") as changes:
            began = time.perf_counter()
            await waiting.end_pod(client, f"job0-0-{size['pods'] - 1}", 1)
            await _added(changes, size["pods"])
            return [{"restart": time.perf_counter() - began}]


def _runs(job: Any) -> bool:
    status: Any = job.get("status", {})
    return job["metadata"]["name"] == waiting.WARM or bool(status.get("phase") == "Running")


async def decision(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure, among many jobs, the time from the failure of a pod until the status reports it."""
    facts: list[Facts] = []
    async with serving(bed, way) as (client, server):
        await client.create(posts(way, size))
        await waiting.until_jobs(client, way, _runs, "running")
        await waiting.until_calm(bed, server)
        for name in named(size)[:: max(1, size["jobs"] // 20)]:
            only = f"metadata.name={name}"
            async with client.watch(way.path, accept=WHOLE, fieldSelector=only) as changes:
                began = time.perf_counter()
                await waiting.end_pod(client, f"{name}-0-{size['pods'] - 1}", 1)
                await _restarting(changes)
                facts.append({"decision": time.perf_counter() - began})
    return facts


async def _restarting(changes: AsyncIterator[Event]) -> None:
    while (await anext(changes))["object"]["status"].get("attempt", 0) == 0:
        pass


async def idle(bed: Bed, way: Way, size: Size) -> list[Facts]:
    """Measure the cost of jobs that have succeeded."""
    async with serving(bed, way) as (client, server):
        if server is None:
            raise ValueError(f"{way.name} has no controller to measure")
        await client.create(posts(way, size))
        await waiting.until_running(client, len(named(size)) * size["pods"])
        await waiting.end_pods(client)
        await waiting.until_jobs(client, way, way.is_done, "done")
        await asyncio.sleep(TRAINS)
        await waiting.until_calm(bed, server)
        before, cpu = await Traffic.now(client), server.process.cpu()
        await asyncio.sleep(size["seconds"])
        traffic = (await Traffic.now(client)).since(before)
        used = (server.process.cpu() - cpu) * 60 / size["seconds"]
        return [{"cpu": used, "memory": server.process.memory(), "writes": traffic.at_all()}]
