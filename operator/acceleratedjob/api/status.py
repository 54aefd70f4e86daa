"""The status of a job, as it is stored in the resource.

`Status` is the only state that survives the operator. Its fields are those of the CRD. Its history
(the attempt, the counted restarts, the failures) decides what the next reconcile does.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from acceleratedjob.api.clocks import Clocks, Wait
from acceleratedjob.api.indexes import indexes, parse_indexes
from acceleratedjob.api.names import ConditionType, Manifest, Phase, Reason, View
from acceleratedjob.api.reasons import alike
from acceleratedjob.api.schema import Reader, choice, dump, integer, list_of, read, section, string
from acceleratedjob.api.sections import MAX_PROCESSES, MAX_REPLICAS
from acceleratedjob.api.times import format_time, parse_time

MAX_FAILURES = 10
MAX_MESSAGE = 1024  # characters; a status with 10 failures stays far from etcd's limit
_COUNT = integer(minimum=0)
# What pods are made by: a status may be anyone's who may write statuses, as a restored one is.
_SIZE = integer(minimum=0, maximum=MAX_REPLICAS)
_PROCESSES = integer(minimum=0, maximum=MAX_PROCESSES)


def _told(cls: type[Any]) -> Reader:
    """A reader of a list of dataclasses."""
    return list_of(section(cls, whole=False))


def shortened(message: str) -> str:
    """A message, cut to the length that a status may have."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition of a job, by the conventions of Kubernetes."""

    type: Annotated[str, string]
    status: Annotated[str, choice("True", "False", "Unknown")]
    reason: Annotated[str, string]
    message: Annotated[str, string] = ""
    last_transition_time: Annotated[str, string] = ""
    observed_generation: Annotated[int, _COUNT] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Why some pods do not run: one entry per reason."""

    reason: Annotated[str, string]
    count: Annotated[int, _COUNT]  # pods
    message: Annotated[str, string] = ""
    since: Annotated[str, string] = ""
    next_try: Annotated[str | None, string] = None  # of what is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended: its first failure, without those that followed from it."""

    attempt: Annotated[int, _COUNT]
    replica: Annotated[int, _COUNT]
    pod: Annotated[str, string]
    reason: Annotated[str, string]
    time: Annotated[str, string]
    message: Annotated[str, string] = ""
    rank: Annotated[int | None, _COUNT] = None  # of several in a replica, if it has told
    node: Annotated[str | None, string] = None
    exit_code: Annotated[int | None, integer(minimum=-(2**31))] = None
    signal: Annotated[int | None, _COUNT] = None
    exception: Annotated[str | None, string] = None  # type, as the process has told it
    traceback: Annotated[str | None, string] = None  # its tail
    step: Annotated[int | None, _COUNT] = None  # of the training
    victims: Annotated[int, _COUNT] = 0  # other replicas that had failed when this was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The fields of `status`."""

    phase: Annotated[str | None, string] = None
    ready_ratio: Annotated[str | None, string] = None  # "3/4": ready or succeeded, of all replicas
    attempt: Annotated[int, _COUNT] = 0
    restarts: Annotated[int, _COUNT] = 0  # attempts that counted towards maxRestarts
    failures_in_a_row: Annotated[int, _COUNT] = 0
    resizes: Annotated[int, _COUNT] = 0
    size: Annotated[int | None, _SIZE] = None  # replicas of this attempt, once it is decided
    wanted: Annotated[int | None, _SIZE] = None  # spec.replicas when it was
    replicas: Annotated[int, _COUNT] = 0  # pods of this attempt that exist
    ready: Annotated[int, _COUNT] = 0
    succeeded: Annotated[int, _COUNT] = 0
    completed_indexes: Annotated[str | None, indexes] = None  # of this attempt, such as 0,3-5
    failed: Annotated[int, _COUNT] = 0
    created: Annotated[int, _COUNT] = 0  # replicas of this attempt that had a pod, if only once
    terminating: Annotated[int, _COUNT] = 0  # pods, of any attempt, that have yet to stop
    world_size: Annotated[int | None, _COUNT] = None
    processes_per_replica: Annotated[int | None, _PROCESSES] = None
    selector: Annotated[str | None, string] = None  # for the scale subresource
    start_time: Annotated[str | None, string] = None
    ready_time: Annotated[str | None, string] = None  # when all of this attempt were first up
    completion_time: Annotated[str | None, string] = None
    observed_generation: Annotated[int | None, _COUNT] = None
    spec_hash: Annotated[str | None, string] = None  # of what this attempt is made from
    conditions: Annotated[tuple[Condition, ...], _told(Condition)] = ()
    pending: Annotated[tuple[Pending, ...], _told(Pending)] = ()
    waits: Annotated[tuple[Wait, ...], _told(Wait)] = ()  # clocks, see `clocks`
    failures: Annotated[tuple[Failure, ...], _told(Failure)] = ()  # newest first

    @classmethod
    def from_manifest(cls, manifest: View) -> "Status":
        """The status of a job; empty if none was written yet.

        What a later version of the operator has written besides is left out, so that one can go
        back to this one.
        """
        return read(cls, manifest.get("status") or {}, "status", whole=False)

    def to_manifest(self) -> Manifest:
        """The JSON form, as the CRD has it."""
        manifest: Manifest = dump(self)
        return manifest

    def condition(self, type_: ConditionType) -> Condition | None:
        """The condition of a type, whether or not it holds."""
        return next((one for one in self.conditions if one.type == type_), None)

    def holds(self, type_: ConditionType) -> bool:
        """Whether a condition is True."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    @property
    def finished(self) -> bool:
        """Whether the job is over, one way or the other, for good."""
        return self.holds(ConditionType.COMPLETE) or self.holds(ConditionType.FAILED)

    @property
    def completed(self) -> frozenset[int]:
        """Replicas of this attempt that are recorded to have done their work."""
        return parse_indexes(self.completed_indexes or "")

    def waiting_since(self, reason: str) -> datetime | None:
        """Since when some pods wait for a reason, or one that is like it; None if none was seen to.

        Pods may have waited one after another: see `clocks` for how long each has.
        """
        found = (one for one in self.pending if one.reason in alike(reason))
        return min((parse_time(one.since) for one in found if one.since), default=None)

    @property
    def clocks(self) -> Clocks:
        """Since when each replica waits for what."""
        begun = {one.reason: parse_time(one.since) for one in self.pending if one.since}
        return Clocks(self.waits, begun)

    def with_failure(self, failure: Failure) -> "Status":
        """The status with one more failure in its history."""
        return dataclasses.replace(self, failures=(failure, *self.failures)[:MAX_FAILURES])


def with_conditions(status: Status, changed: Iterable[Condition], now: datetime) -> Status:
    """Add or replace conditions.

    lastTransitionTime changes only if the status of the condition changes.
    """
    conditions = {condition.type: condition for condition in status.conditions}
    for new in changed:
        old = conditions.get(new.type)
        keep = old is not None and old.status == new.status
        time = old.last_transition_time if old is not None and keep else format_time(now)
        conditions[new.type] = dataclasses.replace(new, last_transition_time=time)
    return dataclasses.replace(status, conditions=tuple(conditions.values()))


def condition(
    type_: ConditionType, holds: bool, reason: Reason, message: str, generation: int = 0
) -> Condition:
    """A condition, whose time is set by `with_conditions`."""
    return Condition(
        type=str(type_),
        status=str(bool(holds)),
        reason=str(reason),
        message=shortened(message),
        observed_generation=generation,
    )


_URGENT_FIELDS = ("attempt", "restarts", "size", "failures")
_URGENT_CONDITIONS = (
    *(ConditionType.SUSPENDED, ConditionType.COMPLETE),
    *(ConditionType.FAILED, ConditionType.STALLED),
)
_URGENT_PHASES = frozenset(Phase) - {Phase.PENDING, Phase.STARTING}


def is_urgent(old: Status, new: Status) -> bool:
    """Whether a change must be written at once.

    Decisions must be: the next step relies on them. So must be which replicas have done their work
    when pods are gone, as nothing else tells of it. Counters may wait and be written together, so
    that a job of a thousand pods does not cost a thousand writes.
    """
    return (
        old.phase is None
        or any(getattr(old, name) != getattr(new, name) for name in _URGENT_FIELDS)
        or any(old.holds(type_) != new.holds(type_) for type_ in _URGENT_CONDITIONS)
        or (old.phase != new.phase and new.phase in _URGENT_PHASES)
        or (old.completed_indexes != new.completed_indexes and new.replicas < (new.size or 0))
    )
