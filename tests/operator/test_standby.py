"""What a reconciler does that may not work yet, or is asked to work no more."""

import asyncio
from typing import Any

from acceleratedjob import api
from acceleratedjob.api import Manifest
from acceleratedjob.cluster import WATCHED, Listed, Rendered
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.queue import WorkQueue
from acceleratedjob.reconciler import Reconciler
from tests.operator.builders import job
from tests.operator.lives import background, names, settle

SECONDS = 20


class Gate:
    """A cluster that answers the creation of a pod only when it is let."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def create_pod(self, pod: Rendered) -> Manifest:
        """Store it at once, and answer late."""
        made = await self.cluster.create_pod(pod)
        self.asked.set()
        await self.open.wait()
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)


def kinds(store: LocalCluster) -> dict[str, list[str]]:
    return {kind: names(store, kind) for kind in ("Pod", "Service", "Event")}


def test_one_that_only_watches_writes_nothing_until_it_works() -> None:
    async def scenario() -> None:
        store = LocalCluster()
        made = await store.create(job())
        reconciler = Reconciler(store)
        async with background(reconciler.watch()):
            reconciler.see(made)
            await settle(store)
            assert kinds(store) == {"Pod": [], "Service": [], "Event": []}
            assert "status" not in store.objects(api.KIND)[0]
            async with background(reconciler.work()):
                await settle(store)
                assert names(store, "Pod") == ["digits-0-0", "digits-0-1"]

    asyncio.run(scenario())


def test_a_stop_waits_for_the_pass_under_way_and_lets_no_other_begin() -> None:
    async def scenario() -> None:
        store = LocalCluster()
        gate = Gate(store)
        reconciler = Reconciler(gate)
        reconciler.see(await store.create(job(replicas=3)))
        async with asyncio.timeout(SECONDS), background(reconciler.run()):
            await gate.asked.wait()
            stopping = asyncio.create_task(reconciler.stop())
            other = job()
            other["metadata"] |= {"uid": "other", "name": "other"}
            reconciler.see(await store.create(other))
            await settle(store)
            assert not stopping.done()
            assert names(store, "Pod") == ["digits-0-0"]
            gate.open.set()
            await stopping
            await settle(store)
        assert names(store, "Pod") == ["digits-0-0", "digits-0-1", "digits-0-2"]

    asyncio.run(scenario())


def test_a_list_read_anew_counts_as_having_listed() -> None:
    async def scenario() -> None:
        store = LocalCluster()
        reconciler = Reconciler(store)
        reconciler.see(await store.create(job()))
        for kind in WATCHED:
            reconciler.take(kind, Listed(()))
        async with background(reconciler.work()):
            await settle(store)
        assert names(store, "Pod") == ["digits-0-0", "digits-0-1"]

    asyncio.run(scenario())


def test_a_closed_queue_gives_nothing_and_waits_for_what_it_gave() -> None:
    async def scenario() -> None:
        queue = WorkQueue()
        queue.add("given")
        queue.add("kept")
        assert await queue.take() == "given"
        closing = asyncio.create_task(queue.close())
        taking = asyncio.create_task(queue.take())
        await asyncio.wait({closing, taking}, timeout=0.05)
        assert not closing.done()
        queue.done("given")
        async with asyncio.timeout(SECONDS):
            await closing
        assert not taking.done()
        taking.cancel()

    asyncio.run(scenario())
