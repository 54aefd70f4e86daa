"""The whole life of a job in memory: an operator, a node, and what both leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed, Cluster, Ref
from acceleratedjob.controller.controller import Controller
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.clockwork import Unhurried, unhurried_now
from tests.operator.node import Node, Script

T = TypeVar("T")
AT_ONCE = {"backoff": {"initialSeconds": 0}}
REF = Ref(names.KIND, "research", "digits")
SECONDS = 20  # of the loop of `run`


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns in a loop in which no time passes while something is done."""
    with asyncio.Runner(loop_factory=Unhurried) as runner:
        return runner.run(work)


@contextlib.asynccontextmanager
async def background(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in work]  # type: ignore[call-overload]  # coroutines
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def operate(
    store: LocalCluster, cluster: Cluster, now: Callable[[], datetime] = unhurried_now
) -> None:
    """An operator's whole life: it begins from what is in the cluster, and knows nothing else."""
    controller = Controller(cluster, retry_seconds=0.001, now=now)
    async with background(controller.run()):
        for found in store.objects(names.KIND):
            controller.see(found)
        async for change in store.watch(names.KIND):
            if isinstance(change, Changed):
                controller.see(change.object)


async def until(store: LocalCluster, holds: Callable[[Status], bool]) -> Status:
    """Wait for a status."""
    async with asyncio.timeout(SECONDS):
        async for _ in store.watch(names.KIND):
            status = Status.from_manifest(await store.read(REF))
            if holds(status):
                return status
    raise AssertionError


async def live(
    manifest: Manifest,
    script: Script,
    cluster: Cluster | None = None,
    on: LocalCluster | None = None,
) -> LocalCluster:
    """Run a job to its end and let the operator clean up after it."""
    store = cluster.cluster if cluster else on or LocalCluster(unhurried_now)  # type: ignore[attr-defined]  # Faulty
    await store.create(manifest)
    async with background(Node(store, script).run(), operate(store, cluster or store)):
        await until(store, lambda status: status.finished)
        await settle(store)
    return store


async def settle(store: LocalCluster) -> None:
    """Wait until nothing has changed for a while: all that is to be done is done."""
    events = store.watch("Pod")
    await anext(events)
    quiet = asyncio.ensure_future(anext(events))
    while (await asyncio.wait({quiet}, timeout=0.2))[0]:
        quiet = asyncio.ensure_future(anext(events))
    quiet.cancel()


def object_names(store: LocalCluster, kind: str) -> list[str]:
    return sorted(one["metadata"]["name"] for one in store.objects(kind))


def status_of(store: LocalCluster) -> Status:
    return Status.from_manifest(store.objects(names.KIND)[0])
