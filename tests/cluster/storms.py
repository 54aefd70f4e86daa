"""What goes wrong in a real cluster, many times over by a seed; and what must be so afterwards."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.cluster import Changed, Gone, Listed
from acceleratedjob.errors import ClusterError
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import KubernetesCluster, collection
from tests.cluster.jobs import fake_job
from tests.cluster.operators import connection, list_objects, play
from tests.cluster.testbed.controlplane import ControlPlane

JOBS, REPLICAS = 4, 4
TAKEN_AWAY, STOPPED = "PodDeleted", 143
PATIENCE = 300  # seconds for what takes ten; the machine may be busy
MERGE = "application/merge-patch+json"


@dataclass(slots=True)
class Storm:
    """Some jobs in a namespace of their own, each of which fails twice before it succeeds."""

    plane: ControlPlane
    link: Connection
    namespace: str
    folder: Path
    chance: random.Random
    overlaps: list[str] = field(default_factory=list)
    failing: int = 2  # so many attempts of each job fail; the next succeeds when it may
    may_end: bool = False

    def script(self, attempt: int, index: int) -> int | None:
        """How a replica of an attempt ends; the last attempt runs until the storm is over."""
        if attempt >= self.failing:
            return 0 if self.may_end else None
        return 1 if index == attempt % REPLICAS else None

    async def create(self, name: str) -> None:
        """Make a job; every other one begins anew as soon as its old pods have stopped."""
        backoff = {"initialSeconds": int(name[-1]) % 2, "maxSeconds": 1}
        policy = {"backoff": backoff, "maxRestarts": 3}
        manifest = fake_job(self.namespace, name, replicas=REPLICAS, failurePolicy=policy)
        path = collection(names.KIND, self.namespace)
        await self.link.request("POST", path, manifest)

    async def jobs(self) -> dict[str, Status]:
        """The status of each job."""
        found = await self._all(names.KIND)
        return {one["metadata"]["name"]: Status.from_manifest(one) for one in found}

    async def pods(self) -> list[Manifest]:
        """All pods."""
        return await self._all("Pod")

    async def _all(self, kind: str) -> list[Manifest]:
        """All objects of a kind, as soon as the API server answers."""
        while True:
            with contextlib.suppress(ClusterError):
                return await list_objects(self.link, kind, self.namespace)
            await asyncio.sleep(0.1)

    async def until(self, holds: Callable[[dict[str, Status]], bool]) -> None:
        """Wait for the jobs' statuses."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(await self.jobs()):  # noqa: ASYNC110  # another process' state
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            error.add_note(str(await self.jobs()))
            raise

    async def underway(self) -> None:
        """Wait until some job has begun its last attempt: the storm falls on all of a life."""
        await self.until(lambda all_: any(each.attempt for each in all_.values()))

    async def finish(self) -> dict[str, Status]:
        """The sky is clear: every job comes to its end."""
        self.may_end = True
        await self.until(lambda all_: all(each.finished for each in all_.values()))
        return await self.jobs()

    async def observe(self) -> None:
        """Note every pod that was there while a pod of another attempt of its job had not ended."""
        alive: dict[str, Manifest] = {}
        async for change in KubernetesCluster(self.link, self.namespace).watch("Pod"):
            if isinstance(change, Listed):
                alive = {pod["metadata"]["uid"]: pod for pod in change.objects if _lives(pod)}
            elif isinstance(change, Gone) or not _lives(change.object):
                alive.pop(change.object["metadata"]["uid"], None)
            else:
                alive[change.object["metadata"]["uid"]] = change.object
            if isinstance(change, Changed):
                self.overlaps += _others(change.object, alive.values())


def _lives(pod: Manifest) -> bool:
    return pod["status"].get("phase") in ("Pending", "Running")


def _others(pod: Manifest, alive: Any) -> list[str]:
    """Names of living pods of the same job, but of another attempt."""
    mine = pod["metadata"]
    if not _lives(pod):
        return []
    same = [each["metadata"] for each in alive if names.owner_uid(each) == names.owner_uid(pod)]
    others = [each["name"] for each in same if _attempt(each) != _attempt(mine)]
    return [f"{mine['name']} beside {name}" for name in others]


def _attempt(metadata: Manifest) -> str:
    return str(metadata["labels"][names.ATTEMPT_LABEL])


@contextlib.asynccontextmanager
async def storm(plane: ControlPlane, folder: Path, seed: str) -> AsyncIterator[Storm]:
    """Jobs that run, and an eye on their pods."""
    namespace = f"storm-{uuid.uuid4().hex[:8]}"
    plane.cluster.kubectl("create", "namespace", namespace)
    async with connection(plane.kubeconfig) as link:
        made = Storm(plane, link, namespace, folder, random.Random(seed))
        works = (play(link, namespace, made.script), made.observe())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            for number in range(JOBS):
                await made.create(f"job{number}")
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            plane.cluster.kubectl(
                "delete", "namespace", namespace, "--wait=false", "--ignore-not-found"
            )


def counted(failure: Failure) -> bool:
    """Whether a restart after a failure is counted, by the documentation."""
    return failure.reason != TAKEN_AWAY and (failure.exit_code != STOPPED or failure.step is None)


def check_accounts(statuses: dict[str, Status], *, calm: bool) -> None:
    """Every attempt has a failure that ended the one before it, and each restart is counted once.

    Args:
        statuses: of all jobs.
        calm: the storm took no pod away, so that only the scripted failures have been.
    """
    for name, status in statuses.items():
        assert status.phase == "Succeeded", (name, status)
        assert [f.attempt for f in status.failures] == list(range(status.attempt))[::-1], name
        assert status.restarts == sum(map(counted, status.failures)), name
        if calm:
            assert (status.attempt, status.restarts) == (2, 2), (name, status)


async def check_objects(storm: Storm, statuses: dict[str, Status]) -> None:
    """The last attempt's pods, a Service each, and nothing else, once the nodes have ended others.

    An attempt begins when the containers before it have stopped; their pods may go later.
    """
    expected = {f"{n}-{s.attempt}-{i}" for n, s in statuses.items() for i in range(REPLICAS)}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while await pod_names(storm) != expected:  # noqa: ASYNC110  # the nodes' state
                await asyncio.sleep(0.2)
    assert await pod_names(storm) == expected
    services = await list_objects(storm.link, "Service", storm.namespace)
    assert {one["metadata"]["name"] for one in services} == set(statuses)
    assert storm.overlaps == []


def check_logs(folder: Path) -> None:
    """No operator has met what it did not expect."""
    for log in folder.glob("*.log"):
        text = log.read_text()
        assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]


async def pod_names(storm: Storm) -> set[str]:
    """The names of all pods."""
    return {pod["metadata"]["name"] for pod in await storm.pods()}


async def patch(storm: Storm, name: str, change: Manifest, subresource: str = "") -> None:
    """Change a job beside the operator."""
    path = f"{collection(names.KIND, storm.namespace)}/{name}{subresource}"
    await storm.link.request("PATCH", path, change, content_type=MERGE)


async def delete(storm: Storm, kind: str, name: str, *, grace: int | None = None) -> None:
    """Delete an object by hand; it may be gone."""
    body = None if grace is None else json.dumps({"gracePeriodSeconds": grace}).encode()
    with contextlib.suppress(ClusterError):
        await storm.link.request("DELETE", f"{collection(kind, storm.namespace)}/{name}", body)
