"""Decides which job is reconciled, and when: events, a work queue, workers and retries.

Reconciles are level-triggered: an event only requests another reconcile of its job. If a reconcile
is interrupted, the next one does the rest, in this process or in another operator.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from acceleratedjob import metrics
from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.times import utc_now
from acceleratedjob.cluster import WATCHED, Change, Changed, Cluster, Listed
from acceleratedjob.controller.backoff import Backoff, Refusals
from acceleratedjob.controller.cache import Cache
from acceleratedjob.controller.polling.cadence import Turns as WriteTurns
from acceleratedjob.controller.polling.hearing import Hearing
from acceleratedjob.controller.polling.notices import Tell, tell_pod
from acceleratedjob.controller.reconciler import Reconciler, Training, elapsed
from acceleratedjob.controller.reporting import log_failed_reconcile
from acceleratedjob.controller.workqueue import Turns, WorkQueue


class Controller:
    """Reconciles all jobs of a cluster; at most one worker at a time works on a job."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        workers: int = 128,
        retry_seconds: float = 1.0,
        turns: WriteTurns | None = None,
        tell: Tell = tell_pod,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Create a controller that knows no job yet.

        Args:
            cluster: the cluster of the jobs.
            workers: the number of jobs that are reconciled concurrently.
            retry_seconds: the wait after a first error; it doubles with each consecutive error.
            turns: when jobs may write what their training says; shared by all controllers.
            tell: sends a request to stop to a pod.
            now: the clock.
        """
        self._cluster = cluster
        self._workers = workers
        self.cache = Cache()
        self.queue = WorkQueue()
        self._turns = Turns()
        self.turns = turns or WriteTurns()
        self.hearing = Hearing()
        self._backoff = Backoff(retry_seconds)
        self._refusals = Refusals(Backoff(retry_seconds))
        self._reconciler = Reconciler(
            cluster,
            self.cache,
            self.queue,
            self._refusals,
            training=Training(self.hearing, self.turns, tell),
            now=now,
        )
        self._listed = {kind: asyncio.Event() for kind in WATCHED}
        self._is_working = False

    def see(self, job: Manifest) -> None:
        """Store a job that was added or changed, and request a reconcile."""
        self.take(names.KIND, Changed(job))

    def take(self, kind: str, change: Change, source: str = "") -> None:
        """Store a change, and request a reconcile of each affected job; see `Cache.take`."""
        for uid in self.cache.take(kind, change, source):
            if kind == names.KIND and uid not in self.cache.jobs:
                self.forget(uid)
            elif self._is_working:  # else `work` adds all jobs when it starts
                self.queue.add(uid)
        if kind in self._listed and not (isinstance(change, Listed) and change.more):
            self._listed[kind].set()

    def forget(self, uid: str) -> None:
        """Drop all data about a job that is gone."""
        self.cache.forget(uid)
        self._reconciler.forget(uid)
        self._backoff.reset(uid)
        self.queue.forget(uid)

    async def run(self) -> None:
        """Watch and work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch())
            tasks.create_task(self.work())

    async def watch(self) -> None:
        """Keep the cache up to date until cancelled; writes nothing to the cluster."""
        async with asyncio.TaskGroup() as tasks:
            for kind in WATCHED:
                tasks.create_task(self._watch(kind))

    async def work(self) -> None:
        """Reconcile all jobs, and each of them again after its events, until cancelled."""
        self._is_working = True
        for uid in self.cache.jobs:
            self.queue.add(uid)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def stop(self) -> None:
        """Start no more reconciles, and wait for the running ones to finish."""
        await self.queue.close()

    async def _watch(self, kind: str) -> None:
        async for change in self._cluster.watch(kind):
            self.take(kind, change)

    async def _work(self) -> None:
        for listed in self._listed.values():
            await listed.wait()
        while True:
            uid = await self.queue.take()
            try:
                await self._turns.take()
                await self._reconcile(uid)
            finally:
                self.queue.done(uid)

    async def _reconcile(self, uid: str) -> None:
        """Reconcile a job once; after an error, retry with exponential backoff."""
        job = self.cache.jobs.get(uid)
        if job is None or job["metadata"].get("deletionTimestamp") or not names.is_ours(job):
            return
        try:
            with metrics.PASS_DURATION.time():
                await self._reconciler.reconcile(job)
        except Exception as error:  # noqa: BLE001  # one job's bug must not stop the other jobs
            log_failed_reconcile(job, error, self._retry(uid))
        else:
            self._backoff.reset(uid)
        if uid not in self.cache.jobs:  # it was deleted during the reconcile
            self.forget(uid)

    def _retry(self, uid: str) -> float:
        """Schedule the next reconcile, and return the seconds until the write is retried.

        A write that was refused has a separate backoff, which may be longer.
        """
        metrics.PASS_ERRORS.inc()
        seconds = self._backoff.next(uid)
        self.queue.add_after(uid, seconds)
        refusal = self._refusals.get(uid, elapsed())
        return seconds if refusal is None else max(seconds, refusal.retry_in.total_seconds())
