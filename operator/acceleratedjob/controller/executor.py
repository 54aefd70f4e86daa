"""Executes the steps of a plan, and records the results: objects in the cache, and refusals."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from acceleratedjob.api.names import Manifest, Reason
from acceleratedjob.api.reasons import without_names
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.cluster import WATCHED, Cluster
from acceleratedjob.controller.backoff import Refusals
from acceleratedjob.controller.batches import slow_start, together
from acceleratedjob.controller.cache import Cache
from acceleratedjob.controller.execute import execute
from acceleratedjob.controller.field_path import field_at_fault
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.controller.polling.notices import Notices, Tell, is_taken, request
from acceleratedjob.controller.reporting import log_refused_event
from acceleratedjob.errors import ClusterError, Held, Refused, is_answer
from acceleratedjob.manifests.pod_bytes import Gang
from acceleratedjob.observe.observed import Refusal
from acceleratedjob.planner.actions import (
    Action,
    Announce,
    CreatePod,
    Deletion,
    GiveNotice,
    Removal,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executor:
    """Executes actions for all jobs of a cluster.

    Attributes:
        cluster: the cluster to write to.
        cache: the cache that stores the responses to writes.
        refusals: the writes that the API server refused.
        ask: requests another reconcile of a job, by its uid.
        tell: sends a request to a pod.
        notices: what coordinators have answered.
        elapsed: a monotonic clock, in seconds.
    """

    cluster: Cluster
    cache: Cache
    refusals: Refusals
    ask: Callable[[str], None]
    tell: Tell
    notices: Notices
    elapsed: Callable[[], float]

    async def take(self, gang: Gang, step: tuple[Action, ...], *, time: str) -> None:
        """Execute one step: create pods by a slow start, execute other actions concurrently.

        Raises:
            Exception: the error of the only action that failed.
            ExceptionGroup: the errors of several actions.
        """
        works = [partial(self._act, gang, action, time) for action in step]
        creates = all(isinstance(action, CreatePod) for action in step)
        await (slow_start if creates else together)(works)

    async def _act(self, gang: Gang, action: Action, time: str) -> None:
        spec = gang.spec
        if isinstance(action, GiveNotice):
            await self._give(spec.uid, action)
            return
        try:
            result = await execute(self.cluster, gang, action, time=time)
        except ClusterError as error:
            if not isinstance(action, Announce):
                await self._refuse(gang, action, error, time)
            elif isinstance(error, Refused):  # a refused Event must not delay the job
                log_refused_event(spec, error)
                return
            raise
        if spec.uid in self.cache.jobs:  # else the job was deleted during the request
            self._keep(spec, action, result)

    async def _give(self, job: str, action: GiveNotice) -> None:
        """Tell the coordinator in a pod that the pods of its attempt are deleted."""
        target = Target(
            pod=action.pod, attempt=action.attempt, address=action.address, port=action.port
        )
        said = request(job, action.attempt, action.seconds)
        taken = await is_taken(self.tell, target, said)
        log.info("pod %s: told to stop, taken=%s", action.pod, taken)
        if job in self.cache.jobs:
            self.notices.note(job, action.pod, self.elapsed(), is_taken=taken)
            self.ask(job)

    def _keep(self, spec: JobSpec, action: Action, result: Manifest | None) -> None:
        """Store the response to a write in the cache, before the watch delivers it."""
        job = (spec.namespace, spec.uid)
        if result is not None and result["kind"] in WATCHED:
            self.cache.keep(result["kind"], result)
        elif isinstance(action, Removal) and self.cache.remove(action.kind, job, action.uid):
            self.ask(spec.uid)

    async def _refuse(self, gang: Gang, action: Action, error: ClusterError, time: str) -> None:
        """Record why the API server refused a write; the status reports it."""
        if not is_answer(error):
            return
        final, field = (error.final, error.field) if isinstance(error, Refused) else (False, "")
        told = Refusal(
            message=str(error),
            final=final and not isinstance(action, Deletion),
            field=field_at_fault(gang, action, field),
        )
        if isinstance(error, Held):
            grace = timedelta(seconds=error.grace_seconds)
            told = replace(told, holder=error.holder, stops_within=grace)
        if self.refusals.add(gang.spec.uid, told, self.elapsed()):  # else it is already reported
            self.ask(gang.spec.uid)
            await self.announce(gang, error, time)

    async def announce(self, gang: Gang, error: ClusterError, time: str) -> None:
        """Create an Event about a write that the API server refused."""
        event = Announce(Reason.REFUSED, without_names(str(error)), warning=True)
        try:
            await execute(self.cluster, gang, event, time=time)
        except ClusterError as another:
            log_refused_event(gang.spec, another)
