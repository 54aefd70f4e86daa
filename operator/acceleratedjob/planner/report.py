"""The status of a job in each stage of its life, from its observed state."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from acceleratedjob.api import names
from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.clocks import Wait, written
from acceleratedjob.api.indexes import format_indexes
from acceleratedjob.api.names import ConditionType, Phase, Reason
from acceleratedjob.api.reasons import TIMED, usual_word, without_names
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import (
    Condition,
    Pending,
    Status,
    condition,
    shortened,
    with_conditions,
)
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pending import Waiting
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner import freshness, grace, stalls, training

NEXT_TRY_PRECISION = timedelta(seconds=2)
MAX_PENDING = 5


def progress(spec: JobSpec, observed: Observed, now: datetime) -> Status:
    """Return the status of a running job: counters, phase, conditions, why pods do not run.

    And what its processes have told.
    """
    old = observed.status
    attempt = Attempt.current(spec, old)
    members = observed.members(attempt.size)
    present = list(members.pods)
    others = [pod for pod in observed.pods if not observed.is_member(pod, attempt.size)]
    done = {index for index in members.completed if index < attempt.size}
    ready = sum(pod.ready for pod in present if pod.index not in done)
    up = ready + len(done)
    status = replace(
        _described(spec, old, attempt),
        phase=str(_phase(attempt, old, present, done, up)),
        ready_ratio=f"{up}/{attempt.size}",
        replicas=len(present),
        ready=ready,
        succeeded=len(done),
        completed_indexes=format_indexes(done) or None,
        created=max(old.created, len(done.union(pod.index for pod in present))),
        failed=sum(pod.ending is not None and pod.index not in done for pod in present),
        terminating=terminating(others),
        start_time=old.start_time or format_time(now),
        ready_time=old.ready_time or (format_time(now) if up >= attempt.size else None),
        pending=_pending(attempt, present, done, observed, now),
        waits=_waits(present, done, old, now),
        stall=stalls.current(spec, old, observed.told, now),
    )
    conditions = [_scheduled(spec, attempt, present, done), _ready(spec, attempt, up)]
    if old.holds(ConditionType.SUSPENDED):
        conditions.append(_condition(ConditionType.SUSPENDED, False, Reason.RESUMED, "", spec))
    # `started` reads since when the job has not been ready, so it comes before the new conditions.
    known = with_conditions(training.started(status, old, now), conditions, now)
    told = training.heard(spec, known, observed, now)
    told = training.with_endings(spec, told, (*members.lost, *present))
    saves = (freshness.freshness(spec, told, now), grace.too_short(spec, members, told))
    return with_conditions(told, [one for one in saves if one is not None], now)


def terminating(pods: Iterable[Pod]) -> int:
    """Return the number of pods to delete whose containers still run."""
    return sum(not pod.stopped for pod in pods)


def _described(spec: JobSpec, old: Status, attempt: Attempt) -> Status:
    """Return the status with the fields that depend only on the spec and the attempt."""
    number = {names.ATTEMPT_LABEL: str(attempt.number)}
    selector = names.pod_selector(spec.name, spec.uid) | number
    return replace(
        old,
        attempt=attempt.number,
        size=attempt.size,
        wanted=spec.replicas,
        world_size=attempt.world_size,
        processes_per_replica=attempt.processes,
        selector=",".join(f"{key}={value}" for key, value in selector.items()),
        observed_generation=spec.generation,
        spec_hash=spec.fingerprint,
    )


def _phase(attempt: Attempt, old: Status, present: list[Pod], done: set[int], up: int) -> Phase:
    if up >= attempt.size:
        return Phase.RUNNING
    if len(_placed(present, done)) >= attempt.size:
        return Phase.STARTING
    if not present and old.phase in (Phase.RESTARTING, Phase.RESIZING):
        return Phase(old.phase)
    return Phase.PENDING


def _waiting(present: list[Pod], done: set[int]) -> list[tuple[int, Waiting]]:
    """Return the waiting replicas, each with its reason."""
    pods = (pod for pod in present if pod.ending is None and pod.index not in done)
    return [(pod.index, pod.waiting) for pod in pods if pod.waiting is not None]


def _waits(present: list[Pod], done: set[int], old: Status, now: datetime) -> tuple[Wait, ...]:
    """Return since when replicas wait, for reasons that have a time limit."""
    clocks = old.clocks
    return written(
        (waiting.reason, index, _since(clocks.since(waiting.reason, index), now))
        for index, waiting in _waiting(present, done)
        if waiting.reason in TIMED
    )


def _since(known: datetime | None, now: datetime) -> str:
    """Return a recorded time, or now if the clock was set back and the time is in the future."""
    return format_time(min(known or now, now))


def _pending(
    attempt: Attempt, present: list[Pod], done: set[int], observed: Observed, now: datetime
) -> tuple[Pending, ...]:
    """Return why pods do not run, the most frequent reason first; synonyms count as one reason."""
    old, clocks = observed.status, observed.status.clocks
    groups: defaultdict[str, list[tuple[int, Waiting]]] = defaultdict(list)
    for index, waiting in _waiting(present, done):
        groups[usual_word(waiting.reason)].append((index, waiting))

    def entry(group: list[tuple[int, Waiting]]) -> Pending:
        waiting, reason = group[0][1], group[0][1].reason
        if reason in TIMED:
            since = min(clocks.since(reason, index) or now for index, _ in group)
        else:
            since = old.waiting_since(reason) or now
        return _entry(waiting, len(group), _since(since, now))

    largest = sorted(groups.values(), key=len, reverse=True)[:MAX_PENDING]
    entries = [entry(group) for group in largest]
    if observed.refusal is not None:
        missing = max(1, attempt.size - len(present))
        message = without_names(observed.refusal.message)
        refused = Waiting(reason=Reason.REFUSED, message=message)
        since = _since(old.waiting_since(Reason.REFUSED), now)
        told = replace(_entry(refused, missing, since), next_try=_next_try(observed, now))
        entries.insert(0, told)
    return tuple(entries)


def _next_try(observed: Observed, now: datetime) -> str | None:
    """Return when a refused write is retried; the recorded time if it differs by rounding only.

    The time is computed from the current time. Without the comparison, it would differ by a second
    in each reconcile, and the status would be written each time.
    """
    if observed.refusal is not None and observed.refusal.holder is not None:
        return None  # it is retried every few seconds
    old = next((one for one in observed.status.pending if one.reason == Reason.REFUSED), None)
    known = old.next_try if old else None
    if observed.refusal is None or not observed.refusal.retry_in:  # the retry is under way
        return known
    due = now + observed.refusal.retry_in
    is_told = known is not None and abs(parse_time(known) - due) < NEXT_TRY_PRECISION
    return known if is_told else format_time(due)


def held_up(status: Status, old: Status, late: list[Pod], count: int, now: datetime) -> Status:
    """Return the status of a job whose pods wait for old pods that exceed their grace period."""
    first, more = late[0], len(late) - 1
    node = f" on node {first.node}" if first.node else ""
    others = f", nor have {more} others" if more else ""
    message = f"pod {first.name}{node} has not stopped within its grace period{others}"
    waiting = Waiting(reason=Reason.TERMINATING, message=message)
    entry = _entry(waiting, count, _since(old.waiting_since(Reason.TERMINATING), now))
    return replace(status, pending=(entry, *status.pending))


def _entry(waiting: Waiting, count: int, since: str) -> Pending:
    message = shortened(waiting.message)
    return Pending(reason=str(waiting.reason), count=count, message=message, since=since)


def _condition(
    type_: ConditionType, holds: bool, reason: Reason, message: str, spec: JobSpec
) -> Condition:
    return condition(type_, holds, reason, message, generation=spec.generation)


def _placed(present: list[Pod], done: set[int]) -> set[int]:
    """Return the replicas that have a node, or no longer need one."""
    placed = (pod.index for pod in present if pod.node is not None or pod.ending is not None)
    return done.union(placed)


def _scheduled(spec: JobSpec, attempt: Attempt, present: list[Pod], done: set[int]) -> Condition:
    placed = len(_placed(present, done))
    message = f"{placed} of {attempt.size} pods have a node"
    holds = placed >= attempt.size
    reason = Reason.ALL_SCHEDULED if holds else Reason.WAITING_FOR_NODES
    return _condition(ConditionType.SCHEDULED, holds, reason, message, spec)


def _ready(spec: JobSpec, attempt: Attempt, up: int) -> Condition:
    holds = up >= attempt.size
    reason = Reason.ALL_READY if holds else Reason.WAITING_FOR_REPLICAS
    message = f"{up} of {attempt.size} replicas are ready or have succeeded"
    return _condition(ConditionType.READY, holds, reason, message, spec)


def _without_pods(status: Status, spec: JobSpec, attempt: Attempt) -> Status:
    """Return the status before an attempt, when none of its pods exists."""
    return replace(
        _described(spec, status, attempt),
        ready_ratio=f"0/{attempt.size}",
        replicas=0,
        ready=0,
        succeeded=0,
        completed_indexes=None,
        created=0,
        failed=0,
        ready_time=None,
        life=0,
        pending=(),
        waits=(),
    )


def suspended(spec: JobSpec, status: Status, now: datetime) -> Status:
    """Return the status of a suspended job: no pods, no deadline, and no decided size."""
    idle = replace(
        _without_pods(status, spec, Attempt.full(spec, status.attempt)),
        phase=str(Phase.SUSPENDED),
        size=None,
        wanted=None,
        spec_hash=None,
        start_time=None,
    )
    off = [
        _condition(ConditionType.SUSPENDED, True, Reason.SUSPENDED, "spec.suspend is true", spec),
        _condition(ConditionType.SCHEDULED, False, Reason.SUSPENDED, "", spec),
        _condition(ConditionType.READY, False, Reason.SUSPENDED, "", spec),
    ]
    return with_conditions(idle, off, now)


def restarting(
    spec: JobSpec, status: Status, message: str, *, counted: bool, now: datetime
) -> Status:
    """Return the status at a restart; new pods are created when the old ones have stopped."""
    moved = replace(status, restarts=status.restarts + counted)
    return _next_attempt(spec, moved, (Phase.RESTARTING, Reason.RESTARTING, message), now)


def resizing(spec: JobSpec, status: Status, size: int, message: str, now: datetime) -> Status:
    """Return the status at a resize to `size` replicas."""
    moved = replace(status, resizes=status.resizes + 1)
    return _next_attempt(spec, moved, (Phase.RESIZING, Reason.RESIZING, message), now, size)


def changing(spec: JobSpec, status: Status, message: str, now: datetime) -> Status:
    """Return the status when a changed spec requires a new attempt; nothing has failed."""
    return _next_attempt(spec, status, (Phase.RESTARTING, Reason.SPEC_CHANGED, message), now)


def renaming(spec: JobSpec, status: Status, message: str, now: datetime) -> Status:
    """Return the status when a new attempt is needed for its pod names; nothing has failed."""
    return _next_attempt(spec, status, (Phase.RESTARTING, Reason.NAME_TAKEN, message), now)


def _next_attempt(
    spec: JobSpec,
    status: Status,
    why: tuple[Phase, Reason, str],
    now: datetime,
    size: int | None = None,
) -> Status:
    """The status at the beginning of an attempt; of the full size, unless another one is given."""
    phase, reason, message = why
    attempt = Attempt(status.attempt + 1, size or spec.replicas, spec.processes)
    moved = replace(training.ended(status, now), phase=str(phase))
    off = [
        _condition(ConditionType.SCHEDULED, False, reason, "", spec),
        _condition(ConditionType.READY, False, reason, message, spec),
    ]
    return with_conditions(_without_pods(moved, spec, attempt), off, now)


def failed(spec: JobSpec, status: Status, reason: Reason, message: str, now: datetime) -> Status:
    """Return the status of a job that fails."""
    ended = replace(
        training.ended(status, now),
        phase=str(Phase.FAILED),
        ready=0,
        terminating=0,
        pending=(),
        waits=(),
    )
    return with_conditions(ended, _failure(reason, message, spec.generation), now)


def _failure(reason: Reason, message: str, generation: int) -> list[Condition]:
    """Return the conditions of a failed job; with Ready only, kstatus would report InProgress."""
    return [
        condition(ConditionType.READY, False, Reason.FINISHED, "", generation),
        condition(ConditionType.FAILED, True, reason, message, generation),
        condition(ConditionType.STALLED, True, reason, message, generation),
    ]


def invalid(status: Status, message: str, generation: int, now: datetime) -> Status:
    """Return the status of a job that fails because its spec is invalid."""
    ended = replace(
        training.ended(status, now),
        phase=str(Phase.FAILED),
        observed_generation=generation,
        pending=(),
        waits=(),
    )
    return with_conditions(ended, _failure(Reason.INVALID_SPEC, message, generation), now)


def succeeded(spec: JobSpec, status: Status, now: datetime) -> Status:
    """Return the status of a job that succeeds."""
    ended = replace(
        training.ended(status, now),
        phase=str(Phase.SUCCEEDED),
        completion_time=format_time(now),
        terminating=0,
        pending=(),
        waits=(),
    )
    message = f"All {Attempt.current(spec, status).size} replicas have succeeded"
    changed = [  # kstatus waits for Ready, so a job that has succeeded is Ready
        _condition(ConditionType.READY, True, Reason.FINISHED, message, spec),
        _condition(ConditionType.COMPLETE, True, Reason.SUCCEEDED, message, spec),
    ]
    return with_conditions(ended, changed, now)
