"""What a controller does that may not work yet, or is asked to work no more."""

import asyncio
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import WATCHED, Listed, Rendered
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.workqueue import WorkQueue
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import job
from tests.operator.clockwork import unhurried_now
from tests.operator.lives import background, object_names, run, settle

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
    return {kind: object_names(store, kind) for kind in ("Pod", "Service", "Event")}


def test_one_that_only_watches_writes_nothing_until_it_works() -> None:
    async def scenario() -> None:
        store = LocalCluster(unhurried_now)
        made = await store.create(job())
        controller = Controller(store, now=unhurried_now)
        async with background(controller.watch()):
            controller.see(made)
            await settle(store)
            assert kinds(store) == {"Pod": [], "Service": [], "Event": []}
            assert "status" not in store.objects(names.KIND)[0]
            async with background(controller.work()):
                await settle(store)
                assert object_names(store, "Pod") == ["digits-0-0", "digits-0-1"]

    run(scenario())


def test_a_stop_waits_for_the_pass_under_way_and_lets_no_other_begin() -> None:
    async def scenario() -> None:
        store = LocalCluster(unhurried_now)
        gate = Gate(store)
        controller = Controller(gate, now=unhurried_now)
        controller.see(await store.create(job(replicas=3)))
        async with asyncio.timeout(SECONDS), background(controller.run()):
            await gate.asked.wait()
            stopping = asyncio.create_task(controller.stop())
            other = job()
            other["metadata"] |= {"uid": "other", "name": "other"}
            controller.see(await store.create(other))
            await settle(store)
            assert not stopping.done()
            assert object_names(store, "Pod") == ["digits-0-0"]
            gate.open.set()
            await stopping
            await settle(store)
        assert object_names(store, "Pod") == ["digits-0-0", "digits-0-1", "digits-0-2"]

    run(scenario())


def test_a_list_read_anew_counts_as_having_listed() -> None:
    async def scenario() -> None:
        store = LocalCluster(unhurried_now)
        controller = Controller(store, now=unhurried_now)
        controller.see(await store.create(job()))
        for kind in WATCHED:
            controller.take(kind, Listed(()))
        async with background(controller.work()):
            await settle(store)
        assert object_names(store, "Pod") == ["digits-0-0", "digits-0-1"]

    run(scenario())


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

    run(scenario())
