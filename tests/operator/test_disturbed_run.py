"""`acceleratedjob run`: a job that is killed, suspended, drained, resized, and hangs, goes on."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Ref
from acceleratedjob.commands.run import run_job
from acceleratedjob.local.cluster import LocalCluster
from tests import enduring

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.xdist_group("gloo")]

REF = Ref(names.KIND, "default", "digits")


class LocalJob:
    """A job that this process runs; the stories are told by another thread."""

    def __init__(self, folder: Path, cluster: LocalCluster) -> None:
        self.folder = folder / "digits-checkpoint"
        self._cluster, self._loop = cluster, asyncio.get_running_loop()
        self.uid: str = cluster.objects(names.KIND)[0]["metadata"]["uid"]

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(enduring.SECONDS)

    def status(self) -> Status:
        return Status.from_manifest(self._do(self._cluster.read(REF)))

    def patch(self, spec: Manifest) -> None:
        async def work() -> None:
            self._cluster.change(REF, lambda job: job["spec"].update(spec))

        self._do(work())

    def pods(self) -> list[tuple[str, ...]]:
        async def work() -> list[tuple[str, ...]]:
            return [
                (pod["metadata"]["uid"], pod["status"]["podIP"], pod["spec"]["nodeName"])
                for pod in self._cluster.objects("Pod")
            ]

        return list(self._do(work()))

    def drain(self) -> None:
        async def work() -> None:
            for pod in self._cluster.objects("Pod"):
                self._cluster.change(Ref.of(pod), evicted)
                await self._cluster.delete(Ref.of(pod), uid=pod["metadata"]["uid"])

        self._do(work())


def evicted(pod: Manifest) -> None:
    """What the API server writes to a pod before it deletes it for an eviction."""
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    pod["status"]["conditions"].append(target)


def run(folder: Path, *stories: Callable[[enduring.Enduring], None]) -> LocalJob:
    """Run the job while the stories happen, one after another, to its end."""

    async def work() -> LocalJob:
        cluster = LocalCluster()
        manifest = enduring.manifest(enduring.LOCAL, terminationGracePeriodSeconds=600)
        running = asyncio.create_task(
            run_job(manifest, workdir=folder, folder=folder, cluster=cluster)
        )
        watch = cluster.watch(names.KIND)
        while not cluster.objects(names.KIND):
            await anext(watch)
        job = LocalJob(folder, cluster)
        told = asyncio.create_task(asyncio.to_thread(tell, job, stories))
        await asyncio.wait((running, told), return_when=asyncio.FIRST_EXCEPTION)
        if not running.done():
            running.cancel()
        await told
        assert await running == 0
        return job

    return asyncio.run(work())


def tell(job: LocalJob, stories: tuple[Callable[[enduring.Enduring], None], ...]) -> None:
    with enduring.all_ends(job):
        for story in stories:
            story(job)
        enduring.ends(job)


@pytest.mark.skipif(
    not enduring.ARE_ALL_TOLD, reason="ACCELERATEDJOB_STORMS is not set: told on a real node"
)
def test_a_job_that_is_disturbed_in_all_ways_ends_with_the_same_weights(tmp_path: Path) -> None:
    usual = enduring.undisturbed(tmp_path / "usual")
    job = run(
        tmp_path,
        enduring.is_killed,
        enduring.is_suspended_and_resumed,
        enduring.is_drained,
        enduring.hangs,
    )
    enduring.every_sample_counts_once(job)
    assert enduring.weights(job.folder) == usual


def test_a_job_that_is_resized_reads_each_sample_once(tmp_path: Path) -> None:
    job = run(tmp_path, enduring.grows_and_shrinks)
    enduring.every_sample_counts_once(job)
