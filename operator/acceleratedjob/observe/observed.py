"""Everything that the planner is given about a job: status, pods, other objects, refusals."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from acceleratedjob.api.status import Status
from acceleratedjob.observe.pod import Pod, Single


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A write to an object of the job that the API server refused."""

    message: str
    final: bool  # it never will
    retry_in: timedelta = timedelta()
    field: str = "spec.template"  # of the job, that is at fault
    holder: str | None = None  # what is being deleted and has the name until it is gone
    stops_within: timedelta = timedelta()  # what the holder's containers have to stop
    lasted: timedelta = timedelta()  # for how long the same has been refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The observed state of a job: the input of a plan, besides the spec and the clock."""

    status: Status = field(default_factory=Status)
    pods: tuple[Pod, ...] = ()  # that exist, of whatever attempt
    lost: tuple[Pod, ...] = ()  # seen and gone, as they were last
    # For how long, by a clock that nobody sets (see `since`); what is not here was seen just now:
    stopping: Mapping[str, timedelta] = field(default_factory=dict)  # pods, by uid, are deleted so
    attempt_known_for: timedelta = timedelta()  # the status has had this attempt
    service_uid: str | None = None
    policy_uid: str | None = None  # of the NetworkPolicy
    singles: Mapping[str, Single] = field(default_factory=dict)  # the same two, by their kinds
    refusal: Refusal | None = None

    def is_member(self, pod: Pod, size: int) -> bool:
        """Whether a pod is a replica of the current attempt.

        Whoever may create pods can create one with any index; one beyond the size is no replica.
        """
        return pod.attempt == self.status.attempt and pod.index < size

    @property
    def completed(self) -> frozenset[int]:
        """The replicas that have succeeded, by the status or by their pods; see `members`."""
        seen = (pod.index for pod in (*self.pods, *self.lost) if pod.succeeded)
        return self.status.completed.union(seen)

    def members(self, size: int) -> "Observed":
        """The observed state, reduced to the pods of the current attempt."""
        kept = [
            tuple(pod for pod in pods if self.is_member(pod, size))
            for pods in (self.pods, self.lost)
        ]
        return replace(self, pods=kept[0], lost=kept[1])
