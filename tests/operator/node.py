"""A node for tests: pods of a LocalCluster live and die as a script says, at once."""

import asyncio
from collections.abc import Callable

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Changed, Cluster, Listed, Ref, Rendered
from acceleratedjob.errors import Unavailable
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.clockwork import unhurried_now

FOREVER = None
Script = Callable[[int, int], int | None]  # (attempt, index) -> exit code, or FOREVER


class Node:
    """Runs every pod: it becomes ready, and ends as the script says when the whole gang is up."""

    def __init__(self, cluster: LocalCluster, script: Script) -> None:
        self.cluster = cluster
        self.script = script

    async def run(self) -> None:
        async for change in self.cluster.watch("Pod"):
            objects = change.objects if isinstance(change, Listed) else (change.object,)
            for pod in objects if isinstance(change, Listed | Changed) else ():
                self._step(pod)
            await asyncio.sleep(0)  # others see each step

    def _step(self, pod: Manifest) -> None:
        """One step of a pod's life; each is seen, and brings the next."""
        if pod["metadata"].get("deletionTimestamp"):
            self.cluster.remove(Ref.of(pod), uid=pod["metadata"]["uid"])
        elif "nodeName" not in pod["spec"]:
            self._report(pod, {"running": {}})
        elif "running" in pod["status"]["containerStatuses"][0]["state"]:
            attempt, index = names.parse_pod_name(pod["metadata"]["name"]) or (0, 0)
            code = self.script(attempt, index)
            if code is not FOREVER:
                ended = {"exitCode": code, "finishedAt": format_time(unhurried_now())}
                self._report(pod, {"terminated": ended})

    def _report(self, pod: Manifest, state: Manifest) -> None:
        def alter(stored: Manifest) -> None:
            stored["spec"]["nodeName"] = "n0"
            ready = "True" if "running" in state else "False"
            stored["status"] = {
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "trainer", "state": state}],
            }

        ref = Ref.of(pod)
        if any(Ref.of(one) == ref for one in self.cluster.objects("Pod")):
            self.cluster.change(ref, alter)


class Faulty:
    """A cluster whose every write fails once: before it was done, or after."""

    def __init__(self, cluster: LocalCluster, *, after: bool) -> None:
        self.cluster = cluster
        self.after = after
        self.failed: set[str] = set()

    async def create(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "Event":
            return await self.cluster.create(manifest)
        return await self._once(f"create {Ref.of(manifest)}", self.cluster.create(manifest))

    async def create_pod(self, pod: Rendered) -> Manifest:
        return await self._once(f"create {pod.ref}", self.cluster.create_pod(pod))

    async def delete(self, ref: Ref, *, uid: str, grace_seconds: int | None = None) -> object:
        work = self.cluster.delete(ref, uid=uid, grace_seconds=grace_seconds)
        return await self._once(f"delete {uid}", work)

    async def write_status(
        self, ref: Ref, status: Manifest, *, uid: str, resource_version: str
    ) -> Manifest:
        work = self.cluster.write_status(ref, status, uid=uid, resource_version=resource_version)
        return await self._once(f"status {status['phase']} {status['attempt']}", work)

    async def _once(self, what: str, work: object) -> Manifest:
        first = what not in self.failed
        self.failed.add(what)
        if first and not self.after:
            work.close()  # type: ignore[attr-defined]  # a coroutine that never began
            raise Unavailable(what)
        done: Manifest = await work  # type: ignore[misc]  # a coroutine
        if first:
            raise Unavailable(what)
        return done

    def __getattr__(self, name: str) -> object:
        return getattr(self.cluster, name)


def faulty(cluster: LocalCluster, *, after: bool) -> Cluster:
    """The cluster with faults; see Faulty."""
    return Faulty(cluster, after=after)  # type: ignore[return-value]  # the rest is the cluster's own
