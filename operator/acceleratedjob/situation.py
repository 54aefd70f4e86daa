"""What a plan is, and what its stages see."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from acceleratedjob import causes
from acceleratedjob.actions import Action, DeletePod
from acceleratedjob.api import STOPPED_EXIT_CODE, Reason
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe import Observed, Pod
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Failure, Status

# Survivors of a failed attempt hang in a collective and have nothing to save. Where a replica is
# only asked to stop, all can agree on a step and save it, in the time that the template gives.
FAILED_GANG_GRACE_SECONDS = 5
ASKED_TO_STOP = (
    *(Reason.POD_DELETED, "PreemptionByScheduler", "EvictionByEvictionAPI", "TerminationByKubelet"),
    *("Evicted", "NodeShutdown", "Preempting", "Shutdown", "Terminated"),
)
# A kubelet that answers has ended a pod's containers this long after the pod's own deadline.
KUBELET_MARGIN = timedelta(seconds=30)

# An elastic job waits this long for more nodes, and then goes on with those that it has.
UNSCHEDULABLE_PATIENCE = timedelta(seconds=60)

Steps = tuple[tuple[Action, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The status to write, then the steps: each a group of actions that may run side by side."""

    status: Status
    steps: Steps = ()
    requeue_after: timedelta | None = None  # look again then, even if nothing changes


@dataclass(frozen=True)
class Situation:
    """What a stage decides from; what it asks for is found out once, as pods may be many."""

    spec: JobSpec
    observed: Observed
    now: datetime
    invalid: InvalidSpec | None = None  # why no pod can be made from the spec

    @property
    def status(self) -> Status:
        """The status as last written."""
        return self.observed.status

    @property
    def whole(self) -> JobSpec:
        """The job in the size that is wanted, in which each next attempt begins."""
        return replace(self.spec, attempt_size=None, attempt_processes=None)

    @property
    def is_as_made(self) -> bool:
        """Whether the spec still says what the current attempt is made from."""
        made_from = self.status.spec_hash
        return made_from is None or made_from in self.spec.fingerprints

    @cached_property
    def members(self) -> Observed:
        """What is seen, with only the pods of the current attempt's replicas."""
        return self.observed.members(self.spec.size)

    @cached_property
    def current(self) -> dict[int, Pod]:
        """Pods of the current attempt by replica index, also those gone after success."""
        seen = self.members
        pods = (*(pod for pod in seen.lost if pod.succeeded), *seen.pods)
        return {pod.index: pod for pod in pods}

    @cached_property
    def old(self) -> tuple[Pod, ...]:
        """Pods that exist and should not: of another attempt, or beyond the replicas."""
        seen, size = self.observed, self.spec.size
        return tuple(pod for pod in seen.pods if not seen.is_member(pod, size))

    @cached_property
    def missing(self) -> list[int]:
        """Indices of replicas that have no pod and are not done."""
        there = self.completed.union(self.current)
        return [index for index in range(self.spec.size) if index not in there]

    @cached_property
    def completed(self) -> frozenset[int]:
        """Indices of replicas that have done their work; their pods may be gone."""
        return frozenset(index for index in self.members.completed if index < self.spec.size)

    @property
    def causes(self) -> list[causes.Cause]:
        """Why the current attempt is over, if it is; also a pod that went while nobody watched."""
        found = list(causes.causes(self.members, self.now))
        if found or not self.was_whole:
            return found
        return [causes.vanished(self.spec, self.status, index, self.now) for index in self.missing]

    @property
    def was_whole(self) -> bool:
        """Whether all pods of the attempt were made: the last is made when all others have been."""
        size, last = self.spec.size, self.spec.size - 1
        created = max(self.status.created, self.status.replicas)
        return created >= size or last in self.current or last in self.completed


def of_attempt(spec: JobSpec, status: Status) -> JobSpec:
    """The job in the size of its current attempt, once that is decided."""
    processes = None if status.size is None else status.processes_per_replica
    return replace(spec, attempt_size=status.size, attempt_processes=processes)


Stage = Callable[[Situation], Plan | None]


def steps(*groups: tuple[Action, ...]) -> Steps:
    """The groups that have actions."""
    return tuple(group for group in groups if group)


def grace_after(failure: Failure) -> int | None:
    """Seconds for the survivors of an attempt that a failure has ended; None: the template's."""
    stops = not failure.exit_code and failure.reason in ASKED_TO_STOP  # None, or it obeyed with 0
    return None if stops or failure.exit_code == STOPPED_EXIT_CODE else FAILED_GANG_GRACE_SECONDS


def deletions(pods: Iterable[Pod], grace: int | None) -> tuple[Action, ...]:
    """Delete what is not being deleted already."""
    return tuple(DeletePod(pod.name, pod.uid, grace) for pod in pods if pod.delete_by is None)
