"""Runs one job on this machine: its operator, its kubelet, and who asks it for its progress."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Changed
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.cadence import POLLS, Budget
from acceleratedjob.controller.polling.poller import Poller
from acceleratedjob.local.cluster import LocalCluster
from acceleratedjob.local.kubelet import Kubelet
from acceleratedjob.observe.progress import Progress
from acceleratedjob.planner.state import FAILED_GANG_GRACE_SECONDS

Work = Coroutine[Any, Any, None]


class Machine:
    """A machine with a cluster of its own."""

    def __init__(self, cluster: LocalCluster, kubelet: Kubelet, *, budget: Budget = POLLS) -> None:
        """Create a machine.

        Args:
            cluster: the cluster, with the objects that the job needs.
            kubelet: runs the pods of the cluster.
            budget: how often the job is asked for its progress.
        """
        self._cluster, self._kubelet = cluster, kubelet
        self._controller = Controller(cluster, tell=kubelet.tell)
        self._poller = Poller([self._controller], ask=kubelet.ask, budget=budget)

    def progress(self, uid: str) -> Progress | None:
        """Return the last answer of a job's running attempt; None if there is none."""
        return self._controller.hearing.last(uid)

    async def run(
        self,
        job: Manifest,
        *,
        see: Callable[[Manifest], None],
        asked_to_end: Coroutine[Any, Any, object],
        grace: float,
        beside: Iterable[Work] = (),
        before_stop: Callable[[bool], None] = lambda _: None,
    ) -> Status | None:
        """Run a job until it has finished, or until asked to end.

        Args:
            job: the job, as the cluster has it.
            see: called with the job after each change.
            asked_to_end: ends when the job is to be ended.
            grace: the seconds that the processes have if it is ended.
            beside: what runs meanwhile, and is cancelled at the end.
            before_stop: called before the processes are stopped, with whether the job has finished.

        Returns:
            The status of a job that has finished; None if it was ended.

        Raises:
            ExceptionGroup: an internal error, after all processes have ended.
        """
        self._controller.see(job)
        async with asyncio.TaskGroup() as tasks:  # an error in one task cancels the others
            ended = tasks.create_task(self._follow(see))
            asked = tasks.create_task(asked_to_end)
            works = (*beside, self._controller.run(), self._kubelet.run(), self._poller.run())
            background = [tasks.create_task(work) for work in works]
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            before_stop(ended.done())
            self._kubelet.stop(FAILED_GANG_GRACE_SECONDS if ended.done() else grace)
            for task in (ended, asked, *background):
                task.cancel()
        return None if ended.cancelled() else ended.result()

    async def _follow(self, see: Callable[[Manifest], None]) -> Status:
        async for change in self._cluster.watch(names.KIND):
            if isinstance(change, Changed):
                self._controller.see(change.object)
                see(change.object)
                status = Status.from_manifest(change.object)
                if status.finished:
                    return status
        raise AssertionError  # a watch does not end
