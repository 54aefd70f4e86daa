"""Runs one job on this machine: its operator, its kubelet, and who asks it for its progress."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.poller import Poller
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.kubelet import Kubelet, Show
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS


class Machine:
    """A machine with a cluster of its own."""

    def __init__(
        self, cluster: LocalCluster, *, workdir: Path, checkpoints: Path, show: Show
    ) -> None:
        """Create a machine.

        Args:
            cluster: the cluster, with the objects that the job needs.
            workdir: the working directory of the processes.
            checkpoints: the folder that takes the place of the volume of the checkpoints.
            show: called with the output of the pods.
        """
        self._cluster = cluster
        self._kubelet = Kubelet(cluster, workdir=workdir, checkpoints=checkpoints, show=show)
        self._controller = Controller(cluster, tell=self._kubelet.tell)

    async def run(
        self,
        job: Manifest,
        *,
        see: Callable[[Manifest], None],
        asked_to_end: Awaitable[None],
        grace: float,
    ) -> None:
        """Run a job until it has finished, or until asked to end.

        Args:
            job: the job, as the cluster has it.
            see: called with the job after each change.
            asked_to_end: ends when the job is to be ended.
            grace: the seconds that the processes have if it is ended.

        Raises:
            ExceptionGroup: an internal error, after all processes have ended.
        """
        self._controller.see(job)
        async with asyncio.TaskGroup() as tasks:  # an error in one task cancels the others
            ended = tasks.create_task(self._follow(see))
            asked = tasks.create_task(_finish(asked_to_end))
            poller = Poller([self._controller], ask=self._kubelet.ask)
            works = (self._controller.run(), self._kubelet.run(), poller.run())
            background = [tasks.create_task(work) for work in works]
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            self._kubelet.stop(FAILED_GANG_GRACE_SECONDS if ended.done() else grace)
            for task in (ended, asked, *background):
                task.cancel()

    async def _follow(self, see: Callable[[Manifest], None]) -> None:
        async for change in self._cluster.watch(names.KIND):
            if isinstance(change, Changed):
                self._controller.see(change.object)
                see(change.object)
                if Status.from_manifest(change.object).finished:
                    return


async def _finish(awaitable: Awaitable[None]) -> None:
    await awaitable
