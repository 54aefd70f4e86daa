"""The input and the output of a stage: the situation of a job, and a plan."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import STOPPED_EXIT_CODE, Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Failure, Status
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner import failures, stalls, training
from acceleratedjob.planner.actions import Action

# After a failure, the other replicas hang in a collective and have nothing to save. If a replica
# was asked to stop, all can save a checkpoint together, within the template's grace period. A taint
# may be that of a lost node: its pod is then waited for longer than the others take.
FAILED_GANG_GRACE_SECONDS = 5
ASKED_TO_STOP = (
    *(Reason.POD_DELETED, "PreemptionByScheduler", "EvictionByEvictionAPI", "TerminationByKubelet"),
    *("DeletionByTaintManager", "Evicted", "NodeShutdown", "Preempting", "Shutdown", "Terminated"),
)
# A working kubelet stops the containers of a pod within this time after the grace period.
KUBELET_MARGIN = timedelta(seconds=30)

# How long an elastic job waits for nodes before it continues with the pods that have one.
UNSCHEDULABLE_PATIENCE = timedelta(seconds=60)

Steps = tuple[tuple[Action, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a reconcile does: write the status, then execute the steps.

    Attributes:
        status: the status to write.
        steps: groups of concurrent actions, executed one after another.
        requeue_after: when to reconcile again, even if nothing changes; None for not at all.
    """

    status: Status
    steps: Steps = ()
    requeue_after: timedelta | None = None


@dataclass(frozen=True)
class Situation:
    """The input of a stage; derived values are cached, because a job may have many pods.

    Attributes:
        spec: the desired state.
        observed: the observed state.
        now: the current time.
        invalid: why no pod can be created from the spec; None if the spec is valid.
    """

    spec: JobSpec
    observed: Observed
    now: datetime
    invalid: InvalidSpec | None = None

    @property
    def status(self) -> Status:
        """The status as last written."""
        return self.observed.status

    @cached_property
    def heard(self) -> Status:
        """The status with what the training has told since: an attempt that ends is closed so."""
        return training.heard(self.spec, self.status, self.observed, self.now)

    @cached_property
    def attempt(self) -> Attempt:
        """The current attempt."""
        return Attempt.current(self.spec, self.status)

    @property
    def is_as_made(self) -> bool:
        """Whether the current attempt was created from the spec as it is now."""
        made_from = self.status.spec_hash
        return made_from is None or made_from in self.spec.fingerprints

    @cached_property
    def members(self) -> Observed:
        """The observed state, reduced to the pods of the current attempt."""
        return self.observed.members(self.attempt.size)

    @cached_property
    def current(self) -> dict[int, Pod]:
        """The pods of the current attempt by index, including succeeded pods that are gone."""
        seen = self.members
        pods = (*(pod for pod in seen.lost if pod.succeeded), *seen.pods)
        return {pod.index: pod for pod in pods}

    @cached_property
    def old(self) -> tuple[Pod, ...]:
        """The pods to delete: those of another attempt, or with an index beyond the size."""
        seen, size = self.observed, self.attempt.size
        return tuple(pod for pod in seen.pods if not seen.is_member(pod, size))

    @cached_property
    def missing(self) -> list[int]:
        """The indices of replicas that have no pod and have not succeeded."""
        there = self.completed.union(self.current)
        return [index for index in range(self.attempt.size) if index not in there]

    @cached_property
    def completed(self) -> frozenset[int]:
        """The indices of replicas that have succeeded; their pods may be gone."""
        return frozenset(index for index in self.members.completed if index < self.attempt.size)

    @property
    def causes(self) -> list[failures.Cause]:
        """The failures of the current attempt, including pods that disappeared unobserved."""
        found = list(failures.causes(self.members, self.now))
        if self.was_whole:
            known = {cause.pod.index for cause in found}
            gone = [index for index in self.missing if index not in known]
            found += [failures.vanished(self.spec, self.status, i, self.now) for i in gone]
        return found or stalls.causes(self.spec, self.members, self.attempt, self.now)

    @property
    def was_whole(self) -> bool:
        """Whether all pods of the attempt were created; the last is created after the others."""
        size, last = self.attempt.size, self.attempt.size - 1
        created = max(self.status.created, self.status.replicas)
        return created >= size or last in self.current or last in self.completed


Stage = Callable[[Situation], Plan | None]


def steps(*groups: tuple[Action, ...]) -> Steps:
    """The non-empty groups of actions."""
    return tuple(group for group in groups if group)


def grace_after(failure: Failure) -> int | None:
    """Return the grace period of the other replicas after a failure; None for the template's."""
    stops = not failure.exit_code and failure.reason in ASKED_TO_STOP  # exit code None or 0
    return None if stops or failure.exit_code == STOPPED_EXIT_CODE else FAILED_GANG_GRACE_SECONDS
