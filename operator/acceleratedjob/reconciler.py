"""Brings every job to what its plan says: look, plan, write the status, take the steps.

Level-triggered: an event only says that a job must be looked at again. A pass that is cut off
anywhere is made good by the next one, in this process or in the one that follows it.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from acceleratedjob import api, metrics
from acceleratedjob.api import Manifest
from acceleratedjob.cache import Cache
from acceleratedjob.cluster import WATCHED, Change, Changed, Cluster, Listed, Ref
from acceleratedjob.deciding import Specs, decide
from acceleratedjob.errors import ClusterError, Conflict, NotFound, is_answer
from acceleratedjob.executor import Executor
from acceleratedjob.gang import Gang
from acceleratedjob.observe import Observed
from acceleratedjob.queue import Backoff, Refusals, Turns, WorkQueue
from acceleratedjob.since import Since
from acceleratedjob.situation import Plan
from acceleratedjob.status import Status, format_time, is_urgent
from acceleratedjob.telling import about, count_restart, log_failed_pass

log = logging.getLogger(__name__)

COALESCE_SECONDS = 5  # counters wait this long for company before they are written
LOOK_AGAIN_SECONDS = 30  # at the latest, where time must pass: the clock may be set meanwhile


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Seconds, by the loop's clock, which nobody sets: what is waited for is counted by it."""
    return asyncio.get_running_loop().time()


class Reconciler:
    """Works on all jobs of a cluster, each by one worker at a time."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        workers: int = 128,
        retry_seconds: float = 1.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Make a reconciler of all jobs that it will be shown.

        Args:
            cluster: where they are.
            workers: how many are looked at side by side.
            retry_seconds: the wait after a first error; it doubles with each in a row.
            now: the clock.
        """
        self._cluster = cluster
        self._workers = workers
        self._now = now
        self.cache = Cache()
        self._specs = Specs()
        self._since = Since()
        self.queue = WorkQueue()
        self._turns = Turns()
        self._backoff = Backoff(retry_seconds)
        self._refusals = Refusals(Backoff(retry_seconds))
        self._unwritten: dict[str, float] = {}  # since when counters wait to be written
        self._executor = Executor(cluster, self.cache, self._refusals, self.queue.add, elapsed)
        self._listed = {kind: asyncio.Event() for kind in WATCHED}
        self._at_work = False

    def see(self, job: Manifest) -> None:
        """A job was added or changed."""
        self.take(api.KIND, Changed(job))

    def take(self, kind: str, change: Change, source: str = "") -> None:
        """Something happened to the jobs, or to what they have; see `Cache.take`."""
        for uid in self.cache.take(kind, change, source):
            if kind == api.KIND and uid not in self.cache.jobs:
                self.forget(uid)
            elif self._at_work:  # before, all that is asked for is to know; then all are looked at
                self.queue.add(uid)
        if kind in self._listed and not (isinstance(change, Listed) and change.more):
            self._listed[kind].set()

    def forget(self, uid: str) -> None:
        """A job is gone: nothing that is kept of it stays."""
        self.cache.forget(uid)
        self._specs.forget(uid)
        self._since.forget(uid)
        self._refusals.forget(uid)
        self._backoff.reset(uid)
        self._unwritten.pop(uid, None)
        self.queue.forget(uid)

    async def run(self) -> None:
        """Watch and work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch())
            tasks.create_task(self.work())

    async def watch(self) -> None:
        """Keep what is known up to date, until cancelled; writes nothing."""
        async with asyncio.TaskGroup() as tasks:
            for kind in WATCHED:
                tasks.create_task(self._watch(kind))

    async def work(self) -> None:
        """Look at all jobs, and at each again when something happens, until cancelled."""
        self._at_work = True
        for uid in self.cache.jobs:
            self.queue.add(uid)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def stop(self) -> None:
        """Begin no more passes, and wait for the end of those under way."""
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
                await self._look(uid)
            finally:
                self.queue.done(uid)

    async def _look(self, uid: str) -> None:
        """One pass over one job; what goes wrong is tried again, later and later."""
        job = self.cache.jobs.get(uid)
        if job is None or job["metadata"].get("deletionTimestamp") or not api.is_ours(job):
            return
        try:
            with metrics.PASS_DURATION.time():
                await self._pass(job)
        except Exception as error:  # noqa: BLE001  # one job's bug must not stop the others
            log_failed_pass(job, error, self._retry(uid))
        else:
            self._backoff.reset(uid)
        if uid not in self.cache.jobs:  # it was deleted meanwhile: the pass has left something
            self.forget(uid)

    def _retry(self, uid: str) -> float:
        """Seconds until what has failed is tried again; what was refused waits for longer."""
        metrics.PASS_ERRORS.inc()
        seconds = self._backoff.next(uid)
        self.queue.add_after(uid, seconds)
        refusal = self._refusals.get(uid, elapsed())
        return seconds if refusal is None else max(seconds, refusal.retry_in.total_seconds())

    async def _pass(self, job: Manifest) -> None:
        uid, now = job["metadata"]["uid"], self._now()
        observed = self._observe(job)
        spec, plan = decide(job, observed, now, self._specs.read)
        gang = Gang(spec, plan.status.attempt)
        try:
            if not await self._write(job, observed.status, plan):
                return
        except ClusterError as error:
            if is_answer(error):  # an event can tell it, where the status cannot
                await self._executor.announce(gang, error, format_time(now))
            raise
        self.cache.forget_lost(uid, attempt=plan.status.attempt)
        for group in plan.steps:
            log.debug("%s", group, extra=about(job, gang.attempt))
            await self._executor.take(gang, group, time=format_time(now))
        if plan.requeue_after is not None:
            seconds = min(plan.requeue_after.total_seconds(), LOOK_AGAIN_SECONDS)
            self.queue.add_after(uid, seconds)
        if observed.refusal is not None and not observed.refusal.retry_in:
            self._refusals.forget(uid)
            self.queue.add(uid)

    def _observe(self, job: Manifest) -> Observed:
        uid, status = job["metadata"]["uid"], Status.from_manifest(job)
        pods = self.cache.pods(uid)
        deletions = {pod.uid: (pod.uid, pod.grace) for pod in pods if pod.delete_by is not None}
        facts = (*deletions.values(), ("attempt", status.attempt))
        known_for = self._since.note(uid, facts, elapsed())
        return Observed(
            status=status,
            pods=pods,
            lost=self.cache.lost(uid),
            stopping={pod: known_for[fact] for pod, fact in deletions.items()},
            attempt_known_for=known_for[facts[-1]],
            service_uid=self.cache.single("Service", uid),
            policy_uid=self.cache.single("NetworkPolicy", uid),
            singles=self.cache.singles(uid),
            refusal=self._refusals.get(uid, elapsed()),
        )

    async def _write(self, job: Manifest, old: Status, plan: Plan) -> bool:
        """Write the status if it must be; False if the job has gone or changed meanwhile."""
        uid, new, now = job["metadata"]["uid"], plan.status, elapsed()
        if new == old:
            self._unwritten.pop(uid, None)
            return True
        due = self._unwritten.setdefault(uid, now) + COALESCE_SECONDS
        if not is_urgent(old, new) and now < due:
            self.queue.add_after(uid, due - now)
            return True
        written = await self._status(job, new)
        if written is None or uid not in self.cache.jobs:  # it may be deleted before the answer
            return False
        self._unwritten.pop(uid, None)
        self.cache.keep_job(written)
        count_restart(old, new)
        log.info("phase=%s", new.phase, extra=about(job, new.attempt))
        return True

    async def _status(self, job: Manifest, status: Status) -> Manifest | None:
        metadata = job["metadata"]
        try:
            return await self._cluster.write_status(
                Ref.of(job),
                status.to_manifest(),
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        except NotFound:
            self.forget(metadata["uid"])
        except Conflict:  # the watch brings the newer job, and with it another pass
            log.debug("status overtaken by another write", extra=about(job))
        return None
