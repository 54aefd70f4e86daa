"""The status of a job, as stored in the resource.

`Status` is the only state that survives a restart of the operator. Its fields are those of the CRD.
The next reconcile depends on its history: the attempt, the counted restarts, the failures.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from acceleratedjob.api.clocks import Clocks, Wait
from acceleratedjob.api.indexes import indexes, parse_indexes
from acceleratedjob.api.names import ConditionType, Manifest, Phase, Reason, View
from acceleratedjob.api.reasons import alike
from acceleratedjob.api.schema import (
    MAX_COUNT,
    Reader,
    choice,
    dump,
    integer,
    list_of,
    read,
    section,
    string,
)
from acceleratedjob.api.sections import MAX_IN_PLACE, MAX_PROCESSES, MAX_REPLICAS
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.api.training import Checkpoint, Goodput, Progress, Shown, Stall

MAX_FAILURES = 10
MAX_LIVES = 5  # of them; the others are ends of attempts, by which the failure policy decides
MAX_MESSAGE = 1024  # characters; a status with 10 failures stays far from etcd's limit
_COUNT = integer(minimum=0)
_STEPS = integer(minimum=0, maximum=MAX_COUNT)  # as the training tells them
# The number of pods to create has an upper limit, because other clients may write the status.
_SIZE = integer(minimum=0, maximum=MAX_REPLICAS)
_PROCESSES = integer(minimum=0, maximum=MAX_PROCESSES)
_LIFE = integer(minimum=0, maximum=MAX_IN_PLACE)


def _told(cls: type[Any]) -> Reader:
    """Return a reader of a list of dataclasses that ignores unknown fields."""
    return list_of(section(cls, whole=False))


def shortened(message: str) -> str:
    """Return a message, cut to MAX_MESSAGE characters."""
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition of a job, by the conventions of Kubernetes.

    Attributes:
        type: the type, such as Ready.
        status: True, False or Unknown.
        reason: a CamelCase constant.
        message: a sentence.
        last_transition_time: when the status last changed.
        observed_generation: the generation of the spec that the condition is about.
    """

    type: Annotated[str, string]
    status: Annotated[str, choice("True", "False", "Unknown")]
    reason: Annotated[str, string]
    message: Annotated[str, string] = ""
    last_transition_time: Annotated[str, string] = ""
    observed_generation: Annotated[int, _COUNT] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Why some pods do not run: one entry per reason.

    Attributes:
        reason: the reason.
        count: the number of pods.
        message: a sentence.
        since: since when pods wait for this reason.
        next_try: when a write that the API server refused is retried.
    """

    reason: Annotated[str, string]
    count: Annotated[int, _COUNT]
    message: Annotated[str, string] = ""
    since: Annotated[str, string] = ""
    next_try: Annotated[str | None, string] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt or a life ended: the first failure, without the failures that it caused.

    Attributes:
        attempt: the number of the attempt.
        life: the life that ended, after which another one began in the same pods; None if the
            attempt ended.
        replica: the index of the replica that failed.
        pod: the name of its pod.
        reason: the reason, such as OOMKilled.
        time: when it failed.
        message: a sentence about the failure.
        rank: the rank that failed; of several ranks per replica, only one that reported itself.
        node: the node of the pod.
        exit_code: the exit code of the training container, or of the process if a life ended.
        signal: the number of the signal that terminated it.
        exception: the type of the exception, as the process reported it.
        traceback: the end of the traceback.
        step: the training step.
        checkpoint: the step of the newest checkpoint on storage, from which the job can go on.
        victims: the number of other replicas that had also failed when this was recorded.
        since: since when the training had stalled, if it had when the attempt ended.
    """

    attempt: Annotated[int, _COUNT]
    life: Annotated[int | None, _COUNT] = None
    replica: Annotated[int, _COUNT]
    pod: Annotated[str, string]
    reason: Annotated[str, string]
    time: Annotated[str, string]
    message: Annotated[str, string] = ""
    rank: Annotated[int | None, _COUNT] = None
    node: Annotated[str | None, string] = None
    exit_code: Annotated[int | None, integer(minimum=-(2**31))] = None
    signal: Annotated[int | None, _COUNT] = None
    exception: Annotated[str | None, string] = None
    traceback: Annotated[str | None, string] = None
    step: Annotated[int | None, _STEPS] = None
    checkpoint: Annotated[int | None, _STEPS] = None
    victims: Annotated[int, _COUNT] = 0
    since: Annotated[str | None, string] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The fields of `status`.

    Attributes:
        phase: the phase; None before the first status was written.
        ready_ratio: replicas that are ready or have succeeded, of all replicas, such as `3/4`.
        attempt: the number of the current attempt.
        life: the life of the current attempt, from 0.
        restarts: the number of restarts that counted towards maxRestarts.
        restarts_in_place: the number of lives that have begun in the pods of a running attempt.
        failures_in_a_row: the number of consecutive failed attempts, which sets the backoff.
        resizes: the number of resizes.
        size: the number of replicas of the attempt, once it is decided.
        wanted: `spec.replicas` when the size was decided.
        replicas: the number of pods of the attempt that exist.
        ready: the number of ready replicas.
        succeeded: the number of replicas that have succeeded.
        completed_indexes: the indices of the replicas that have succeeded, such as `0,3-5`.
        failed: the number of replicas that have failed.
        created: the number of replicas of the attempt for which a pod was ever observed.
        terminating: the number of pods to delete whose containers still run.
        world_size: the number of processes of the attempt.
        processes_per_replica: the number of processes per replica of the attempt.
        selector: the label selector of the pods, for the scale subresource.
        start_time: when the job started or was last resumed.
        ready_time: when all replicas of the attempt were first up.
        completion_time: when the job succeeded.
        observed_generation: the generation of the spec that was last reconciled.
        spec_hash: the fingerprint of the spec that the attempt was created from.
        conditions: the conditions.
        pending: why pods do not run.
        waits: since when replicas wait, see `clocks`.
        failures: the last failures, the newest first.
        progress: how far the training is.
        checkpoint: the newest checkpoint on storage; in memory if none is on storage.
        stall: since when the training has stalled, if stallDeadlineSeconds is set.
        goodput: what the time of the job went into.
        shown: texts for the columns of `kubectl get`.
    """

    phase: Annotated[str | None, string] = None
    ready_ratio: Annotated[str | None, string] = None
    attempt: Annotated[int, _COUNT] = 0
    life: Annotated[int, _LIFE] = 0
    restarts: Annotated[int, _COUNT] = 0
    restarts_in_place: Annotated[int, _COUNT] = 0
    failures_in_a_row: Annotated[int, _COUNT] = 0
    resizes: Annotated[int, _COUNT] = 0
    size: Annotated[int | None, _SIZE] = None
    wanted: Annotated[int | None, _SIZE] = None
    replicas: Annotated[int, _COUNT] = 0
    ready: Annotated[int, _COUNT] = 0
    succeeded: Annotated[int, _COUNT] = 0
    completed_indexes: Annotated[str | None, indexes] = None
    failed: Annotated[int, _COUNT] = 0
    created: Annotated[int, _COUNT] = 0
    terminating: Annotated[int, _COUNT] = 0
    world_size: Annotated[int | None, _COUNT] = None
    processes_per_replica: Annotated[int | None, _PROCESSES] = None
    selector: Annotated[str | None, string] = None
    start_time: Annotated[str | None, string] = None
    ready_time: Annotated[str | None, string] = None
    completion_time: Annotated[str | None, string] = None
    observed_generation: Annotated[int | None, _COUNT] = None
    spec_hash: Annotated[str | None, string] = None
    conditions: Annotated[tuple[Condition, ...], _told(Condition)] = ()
    pending: Annotated[tuple[Pending, ...], _told(Pending)] = ()
    waits: Annotated[tuple[Wait, ...], _told(Wait)] = ()
    failures: Annotated[tuple[Failure, ...], _told(Failure)] = ()
    progress: Annotated[Progress | None, section(Progress, whole=False)] = None
    checkpoint: Annotated[Checkpoint | None, section(Checkpoint, whole=False)] = None
    stall: Annotated[Stall | None, section(Stall, whole=False)] = None
    goodput: Annotated[Goodput | None, section(Goodput, whole=False)] = None
    shown: Annotated[Shown | None, section(Shown, whole=False)] = None

    @classmethod
    def from_manifest(cls, manifest: View) -> "Status":
        """Return the status of a job; empty if none was written yet.

        Fields of a later version of the operator are ignored, so that a downgrade is possible.
        """
        return read(cls, manifest.get("status") or {}, "status", whole=False)

    def to_manifest(self) -> Manifest:
        """Return the JSON form, as in the CRD."""
        manifest: Manifest = dump(self)
        return manifest

    def condition(self, type_: ConditionType) -> Condition | None:
        """Return the condition of a type, whether or not it is True."""
        return next((one for one in self.conditions if one.type == type_), None)

    def holds(self, type_: ConditionType) -> bool:
        """Whether a condition is True."""
        found = self.condition(type_)
        return found is not None and found.status == "True"

    @property
    def finished(self) -> bool:
        """Whether the job has succeeded or failed."""
        return self.holds(ConditionType.COMPLETE) or self.holds(ConditionType.FAILED)

    @property
    def completed(self) -> frozenset[int]:
        """The indices of the replicas of this attempt that are recorded as succeeded."""
        return parse_indexes(self.completed_indexes or "")

    def waiting_since(self, reason: str) -> datetime | None:
        """Return since when pods wait for a reason or a synonym of it; None if none does.

        Different pods may have waited one after another: `clocks` has the time of each.
        """
        found = (one for one in self.pending if one.reason in alike(reason))
        return min((parse_time(one.since) for one in found if one.since), default=None)

    @property
    def clocks(self) -> Clocks:
        """Since when each replica waits, by reason."""
        begun = {one.reason: parse_time(one.since) for one in self.pending if one.since}
        return Clocks(self.waits, begun)

    @property
    def ends(self) -> tuple[Failure, ...]:
        """The failures that ended attempts, the newest first; the others ended lives only."""
        return tuple(one for one in self.failures if one.life is None)

    def with_failures(self, *newer: Failure) -> "Status":
        """Return the status with more failures in its history, the newest first."""
        lives = itertools.count(1)
        failures = (*newer, *self.failures)
        kept = [one for one in failures if one.life is None or next(lives) <= MAX_LIVES]
        return dataclasses.replace(self, failures=tuple(kept[:MAX_FAILURES]))


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
    """Return a condition without a time, which `with_conditions` sets."""
    return Condition(
        type=str(type_),
        status=str(bool(holds)),
        reason=str(reason),
        message=shortened(message),
        observed_generation=generation,
    )


_URGENT_FIELDS = ("attempt", "restarts", "restarts_in_place", "size", "failures")
_URGENT_CONDITIONS = (
    *(ConditionType.SUSPENDED, ConditionType.COMPLETE),
    *(ConditionType.FAILED, ConditionType.STALLED),
)
_VERDICTS = (
    *(ConditionType.HANGING, ConditionType.STRAGGLING, ConditionType.DIVERGED),
    ConditionType.GRACE_TOO_SHORT,
)
_TRAINED = (*_VERDICTS, ConditionType.CHECKPOINT_FRESH)
# A verdict that comes and goes must not cost a write and an Event each time.
NEWS_AFTER = timedelta(seconds=60)
_URGENT_PHASES = frozenset(Phase) - {Phase.PENDING, Phase.STARTING}


def is_urgent(old: Status, new: Status) -> bool:
    """Whether a change must be written immediately.

    Decisions must, because the next step relies on them. So must the indices of replicas that have
    succeeded, if pods are gone, because nothing else records them, and the checkpoint with which
    pods have stopped. Changes of counters are written together later, so that a job of a thousand
    pods does not cost a thousand writes.
    """
    return (
        old.phase is None
        or any(getattr(old, name) != getattr(new, name) for name in _URGENT_FIELDS)
        or any(old.holds(type_) != new.holds(type_) for type_ in _URGENT_CONDITIONS)
        or (old.phase != new.phase and new.phase in _URGENT_PHASES)
        or (old.completed_indexes != new.completed_indexes and new.replicas < (new.size or 0))
        or (old.checkpoint != new.checkpoint and not _has_told(new))
    )


def _has_told(status: Status) -> bool:
    """Whether the current attempt has told of its progress."""
    return status.progress is not None and status.progress.attempt >= status.attempt


def news(old: Status, new: Status) -> Iterator[Condition]:
    """Yield the verdicts that hold now, and have not held for some time."""
    for type_ in _VERDICTS:
        before, after = old.condition(type_), new.condition(type_)
        if after is None or after.status != "True" or old.holds(type_):
            continue
        if before is None or _apart(before, after) >= NEWS_AFTER:
            yield after


def _apart(before: Condition, after: Condition) -> timedelta:
    """Return the time between the last transitions of a condition."""
    return parse_time(after.last_transition_time) - parse_time(before.last_transition_time)


def has_only_trained(old: Status, new: Status) -> bool:
    """Whether nothing but what the training says has changed, which is written in turn."""
    return _untrained(old) == _untrained(new)


def _untrained(status: Status) -> Status:
    """Return a status without what the training says: its numbers, and its verdicts."""
    others = tuple(one for one in status.conditions if one.type not in _TRAINED)
    return dataclasses.replace(
        status,
        conditions=others,
        progress=None,
        checkpoint=None,
        stall=None,
        goodput=None,
        shown=None,
    )
