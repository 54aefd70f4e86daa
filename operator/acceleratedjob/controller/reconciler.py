"""One reconcile of one job: observe, plan, write the status, execute the steps of the plan."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Manifest
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status, has_only_trained, is_urgent, news
from acceleratedjob.api.times import format_time
from acceleratedjob.cluster import Cluster, Ref
from acceleratedjob.controller.backoff import Refusals
from acceleratedjob.controller.cache import Cache
from acceleratedjob.controller.executor import Executor
from acceleratedjob.controller.first_seen import Since
from acceleratedjob.controller.polling.cadence import Turns
from acceleratedjob.controller.polling.hearing import Hearing, target
from acceleratedjob.controller.polling.notices import Notices, Tell
from acceleratedjob.controller.reporting import about, count_restarts
from acceleratedjob.controller.specs import Specs
from acceleratedjob.controller.workqueue import WorkQueue
from acceleratedjob.errors import ClusterError, Conflict, NotFound, is_answer
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner.grace import raised
from acceleratedjob.planner.planner import decide
from acceleratedjob.planner.state import Plan

log = logging.getLogger(__name__)

COALESCE_SECONDS = 5  # how long a change of counters waits for further changes before the write
LOOK_AGAIN_SECONDS = 30  # the longest wait for a time, because the clock may be set meanwhile


def elapsed() -> float:
    """Seconds on the event loop's monotonic clock."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Training:
    """What the processes of jobs tell, and who may write it.

    Attributes:
        hearing: whom to ask, and what was answered.
        turns: who may write it now.
        tell: sends a request to stop to a pod.
        notices: which pods were told to stop.
    """

    hearing: Hearing
    turns: Turns
    tell: Tell
    notices: Notices = field(default_factory=Notices)

    def told(self, uid: str, attempt: int) -> Told:
        """Return what an attempt has told, and when."""
        told = self.hearing.told(uid, attempt)
        return replace(told, age=self.hearing.age(uid, elapsed()))

    def aim(self, uid: str, spec: JobSpec, status: Status, pods: Iterable[Pod]) -> None:
        """Say where a job answers from now on; see `hearing.target`."""
        told = status.progress
        has_answered = told is not None and told.attempt == status.attempt
        self.hearing.aim(uid, target(spec, status, pods), has_answered=has_answered)

    def forget(self, uid: str) -> None:
        """Drop all data about a job that is gone."""
        self.hearing.forget(uid)
        self.turns.forget(uid)
        self.notices.forget(uid)


def _gang(spec: JobSpec, status: Status) -> Gang:
    return Gang(raised(spec, status), Attempt.current(spec, status))


class Reconciler:
    """Reconciles jobs; it must not reconcile a job twice at the same time."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        queue: WorkQueue,
        refusals: Refusals,
        *,
        training: Training,
        now: Callable[[], datetime],
    ) -> None:
        """Create a reconciler.

        Args:
            cluster: the cluster to read from and to write to.
            cache: the observed state of all jobs.
            queue: the work queue, for requests of another reconcile.
            refusals: the writes that the API server refused.
            training: what the processes of jobs tell, and who may write it.
            now: the clock.
        """
        self._cluster = cluster
        self._cache = cache
        self._queue = queue
        self._refusals = refusals
        self._training = training
        self._now = now
        self._specs = Specs()
        self._since = Since()
        self._unwritten: dict[str, float] = {}  # since when counters wait to be written
        self._executor = Executor(
            cluster, cache, refusals, queue.add, training.tell, training.notices, elapsed
        )

    def forget(self, uid: str) -> None:
        """Drop all data about a job that is gone."""
        self._specs.forget(uid)
        self._since.forget(uid)
        self._refusals.forget(uid)
        self._training.forget(uid)
        self._unwritten.pop(uid, None)

    async def reconcile(self, job: Manifest) -> None:
        """Bring a job closer to its desired state.

        Raises:
            Exception: a write failed; the next reconcile does the rest.
        """
        uid, now = job["metadata"]["uid"], self._now()
        observed = self._observe(job)
        spec, plan = decide(job, observed, now, self._specs.read)
        self._training.aim(uid, spec, plan.status, observed.pods)
        gang, old = _gang(spec, plan.status), observed.status
        if self._is_due(uid, old, plan) and not await self._write(job, gang, old, plan.status, now):
            return
        self._cache.forget_lost(uid, attempt=plan.status.attempt)
        for step in plan.steps:
            log.debug("%s", step, extra=about(job, gang.attempt.number))
            await self._executor.take(gang, step, time=format_time(now))
        if plan.requeue_after is not None:
            seconds = min(plan.requeue_after.total_seconds(), LOOK_AGAIN_SECONDS)
            self._queue.add_after(uid, seconds)
        if observed.refusal is not None and not observed.refusal.retry_in:
            self._refusals.forget(uid)
            self._queue.add(uid)

    def _observe(self, job: Manifest) -> Observed:
        uid, status = job["metadata"]["uid"], Status.from_manifest(job)
        pods = self._cache.pods(uid)
        deletions = {pod.uid: (pod.uid, pod.grace) for pod in pods if pod.delete_by is not None}
        facts = (*deletions.values(), ("attempt", status.attempt))
        known_for = self._since.note(uid, facts, elapsed())
        return Observed(
            status=status,
            pods=pods,
            lost=self._cache.lost(uid),
            stopping={pod: known_for[fact] for pod, fact in deletions.items()},
            attempt_known_for=known_for[facts[-1]],
            service_uid=self._cache.single("Service", uid),
            policy_uid=self._cache.single("NetworkPolicy", uid),
            singles=self._cache.singles(uid),
            refusal=self._refusals.get(uid, elapsed()),
            told=self._training.told(uid, status.attempt),
            notices=self._training.notices.of(uid, (pod.uid for pod in pods), elapsed()),
        )

    def _is_due(self, uid: str, old: Status, plan: Plan) -> bool:
        """Whether the status must be written now; for counters, schedule a reconcile that does."""
        if plan.status == old:
            self._unwritten.pop(uid, None)
            return False
        if is_urgent(old, plan.status):
            return True
        now = elapsed()
        if has_only_trained(old, plan.status):
            self._unwritten.pop(uid, None)
            at_once = any(True for _ in news(old, plan.status))
            wait = self._training.turns.take(uid, now, at_once=at_once)
            if wait:
                self._queue.add_after(uid, wait)
            return not wait
        due = self._unwritten.setdefault(uid, now) + COALESCE_SECONDS
        if now >= due:
            return True
        self._queue.add_after(uid, due - now)
        return False

    async def _write(
        self, job: Manifest, gang: Gang, old: Status, new: Status, now: datetime
    ) -> bool:
        """Write the status; return False if the job is gone or has changed."""
        try:
            written = await self._patch(job, new)
        except ClusterError as error:
            if is_answer(error):  # report it by an Event, because the status cannot be written
                await self._executor.announce(gang, error, format_time(now))
            raise
        uid = job["metadata"]["uid"]
        if written is None or uid not in self._cache.jobs:  # deleted during the request
            return False
        self._unwritten.pop(uid, None)
        self._training.turns.wrote(uid, elapsed())
        self._cache.keep_job(written)
        count_restarts(old, new)
        log.info("phase=%s", new.phase, extra=about(job, new.attempt))
        return True

    async def _patch(self, job: Manifest, status: Status) -> Manifest | None:
        metadata = job["metadata"]
        try:
            return await self._cluster.write_status(
                Ref.of(job),
                status.to_manifest(),
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        except NotFound:
            self._cache.forget(metadata["uid"])
        except Conflict:  # the watch delivers the newer job, which requests another reconcile
            log.debug("the job has changed since it was read", extra=about(job))
        return None
