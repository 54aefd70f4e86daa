"""The observed state of a job, as passed to the planner: status, pods, objects, refusals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from acceleratedjob.api.status import Status
from acceleratedjob.observe.pod import Pod, Single
from acceleratedjob.observe.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A write to an object of the job that the API server refused.

    Attributes:
        message: the message of the API server.
        final: whether the API server will never accept the same object.
        retry_in: the time until the next try.
        field: the path of the invalid field of the job.
        holder: the name of an object that is being deleted and still has the name.
        stops_within: the grace period of the holder's containers.
        lasted: for how long the same write has been refused.
    """

    message: str
    final: bool
    retry_in: timedelta = timedelta()
    field: str = "spec.template"
    holder: str | None = None
    stops_within: timedelta = timedelta()
    lasted: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the processes of the current attempt have told; the other durations are between polls.

    Attributes:
        progress: the last valid answer; None if there was none.
        age: the time since this answer.
        hangs_for: for how long all answers have said that the same life hangs at the same step.
        silent_for: for how long no poll was answered; zero if too few polls were not.
    """

    progress: Progress | None = None
    age: timedelta = timedelta()
    hangs_for: timedelta = timedelta()
    silent_for: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A notice to the coordinator in a pod that the pods of its attempt are deleted.

    Attributes:
        is_taken: whether it answered that all ranks stop by themselves.
        ago: the time since then.
    """

    is_taken: bool
    ago: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The observed state of a job: the input of a plan, besides the spec and the clock.

    Durations are measured by a monotonic clock, see `controller.first_seen`.

    Attributes:
        status: the last written status.
        pods: the pods that exist, of all attempts.
        lost: the last state of pods that were observed and no longer exist.
        stopping: for how long each pod has been observed as being deleted, by uid.
        attempt_known_for: for how long the status has been observed to have this attempt.
        service_uid: the uid of the Service; None if there is none.
        policy_uid: the uid of the NetworkPolicy; None if there is none.
        singles: the facts about the Service and the NetworkPolicy, by kind.
        refusal: the last write that the API server refused.
        told: what the processes of the current attempt have told.
        notices: the notices that were given, by the uid of the pod.
    """

    status: Status = field(default_factory=Status)
    pods: tuple[Pod, ...] = ()
    lost: tuple[Pod, ...] = ()
    stopping: Mapping[str, timedelta] = field(default_factory=dict)
    attempt_known_for: timedelta = timedelta()
    service_uid: str | None = None
    policy_uid: str | None = None
    singles: Mapping[str, Single] = field(default_factory=dict)
    refusal: Refusal | None = None
    told: Told = Told()
    notices: Mapping[str, Notice] = field(default_factory=dict)

    def is_member(self, pod: Pod, size: int) -> bool:
        """Whether a pod is a replica of the current attempt.

        Anyone who may create pods can choose any index: a pod beyond the size is no replica.
        """
        return pod.attempt == self.status.attempt and pod.index < size

    @property
    def completed(self) -> frozenset[int]:
        """The indices of the replicas that have succeeded, by the status or by their pods."""
        seen = (pod.index for pod in (*self.pods, *self.lost) if pod.succeeded)
        return self.status.completed.union(seen)

    def members(self, size: int) -> "Observed":
        """Return the observed state, reduced to the pods of the current attempt."""
        kept = [
            tuple(pod for pod in pods if self.is_member(pod, size))
            for pods in (self.pods, self.lost)
        ]
        return replace(self, pods=kept[0], lost=kept[1])
