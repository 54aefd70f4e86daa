"""Takes the steps of a plan, and keeps what comes of them: objects, and refusals."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from acceleratedjob.actions import Action, Announce, CreatePod, Deletion, Removal
from acceleratedjob.api import Manifest, Reason
from acceleratedjob.batches import slow_start, together
from acceleratedjob.cache import Cache
from acceleratedjob.cluster import WATCHED, Cluster
from acceleratedjob.errors import ClusterError, Held, Refused, is_answer
from acceleratedjob.execute import execute
from acceleratedjob.gang import Gang
from acceleratedjob.observe import Refusal
from acceleratedjob.queue import Refusals
from acceleratedjob.refusals import field_at_fault
from acceleratedjob.spec import JobSpec
from acceleratedjob.telling import log_refused_event
from acceleratedjob.waits import without_names


@dataclass(frozen=True, slots=True)
class Executor:
    """Acts for all jobs of a cluster."""

    cluster: Cluster
    cache: Cache
    refusals: Refusals
    ask: Callable[[str], None]  # for another look at a job, by its uid
    elapsed: Callable[[], float]  # seconds, on a monotonic clock

    async def take(self, gang: Gang, step: tuple[Action, ...], *, time: str) -> None:
        """Take one step: pods are created by a slow start, all else is done side by side.

        Raises:
            Exception: of an action.
            ExceptionGroup: of several.
        """
        works = [partial(self._act, gang, action, time) for action in step]
        creates = all(isinstance(action, CreatePod) for action in step)
        await (slow_start if creates else together)(works)

    async def _act(self, gang: Gang, action: Action, time: str) -> None:
        spec = gang.spec
        try:
            result = await execute(self.cluster, gang, action, time=time)
        except ClusterError as error:
            if not isinstance(action, Announce):
                await self._refuse(gang, action, error, time)
            elif isinstance(error, Refused):  # no event must hold up a job
                log_refused_event(spec, error)
                return
            raise
        if spec.uid in self.cache.jobs:  # else it was deleted meanwhile, and is forgotten
            self._keep(spec, action, result)

    def _keep(self, spec: JobSpec, action: Action, result: Manifest | None) -> None:
        """What an answer says is known from now on, however late the watch tells it."""
        job = (spec.namespace, spec.uid)
        if result is not None and result["kind"] in WATCHED:
            self.cache.keep(result["kind"], result)
        elif isinstance(action, Removal) and self.cache.remove(action.kind, job, action.uid):
            self.ask(spec.uid)

    async def _refuse(self, gang: Gang, action: Action, error: ClusterError, time: str) -> None:
        """Keep what the API server says of a job's object; the status tells it."""
        if not is_answer(error):
            return
        final, field = (error.final, error.field) if isinstance(error, Refused) else (False, "")
        told = Refusal(
            message=str(error),
            final=final and not isinstance(action, Deletion),
            field=field_at_fault(gang.spec, action, field),
        )
        if isinstance(error, Held):
            grace = timedelta(seconds=error.grace_seconds)
            told = replace(told, holder=error.holder, stops_within=grace)
        if self.refusals.add(gang.spec.uid, told, self.elapsed()):  # else it is told already
            self.ask(gang.spec.uid)
            await self.announce(gang, error, time)

    async def announce(self, gang: Gang, error: ClusterError, time: str) -> None:
        """Write an Event about a write that the API server has not taken."""
        event = Announce(Reason.REFUSED, without_names(str(error)), warning=True)
        try:
            await execute(self.cluster, gang, event, time=time)
        except ClusterError as another:
            log_refused_event(gang.spec, another)
