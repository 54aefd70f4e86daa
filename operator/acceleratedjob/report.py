"""The status of a job in each stage of its life: pure, from what is seen."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from acceleratedjob import api
from acceleratedjob.api import ConditionType, Phase, Reason
from acceleratedjob.observe import Observed, Pod
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import (
    Condition,
    Pending,
    Status,
    condition,
    format_time,
    shortened,
    with_conditions,
)
from acceleratedjob.waits import without_names

MAX_PENDING = 5


def progress(spec: JobSpec, observed: Observed, now: datetime) -> Status:
    """The status of a job that is under way: counters, phase, and why pods do not run."""
    old = observed.status
    members = observed.members(spec.size)
    present = list(members.pods)
    others = [pod for pod in observed.pods if not observed.is_member(pod, spec.size)]
    done = {pod.index for pod in (*present, *members.lost) if pod.succeeded}
    ready = sum(pod.ready for pod in present if pod.index not in done)
    up = ready + len(done)
    status = replace(
        _described(spec, old),
        phase=str(_phase(spec, old, present, up)),
        ready_ratio=f"{up}/{spec.size}",
        replicas=len(present),
        ready=ready,
        succeeded=len(done),
        failed=sum(pod.ending is not None and pod.index not in done for pod in present),
        terminating=terminating(others),
        start_time=old.start_time or format_time(now),
        ready_time=old.ready_time or (format_time(now) if up >= spec.size else None),
        pending=_pending(spec, present, observed, now),
    )
    conditions = [_scheduled(spec, present), _ready(spec, up)]
    if old.holds(ConditionType.SUSPENDED):
        conditions.append(_condition(ConditionType.SUSPENDED, False, Reason.RESUMED, "", spec))
    return with_conditions(status, conditions, now)


def terminating(pods: Iterable[Pod]) -> int:
    """How many of the pods that are to go have yet to stop."""
    return sum(not pod.stopped for pod in pods)


def _described(spec: JobSpec, old: Status) -> Status:
    """What follows from the spec alone."""
    selector = api.job_labels(spec.name) | {api.ATTEMPT_LABEL: str(old.attempt)}
    return replace(
        old,
        size=spec.size,
        wanted=spec.replicas,
        world_size=spec.world_size,
        processes_per_replica=spec.processes,
        selector=",".join(f"{key}={value}" for key, value in selector.items()),
        observed_generation=spec.generation,
    )


def _phase(spec: JobSpec, old: Status, present: list[Pod], up: int) -> Phase:
    if up >= spec.size:
        return Phase.RUNNING
    if len(present) == spec.size and all(pod.node for pod in present):
        return Phase.STARTING
    if not present and old.phase in (Phase.RESTARTING, Phase.RESIZING):
        return Phase(old.phase)
    return Phase.PENDING


def _pending(
    spec: JobSpec, present: list[Pod], observed: Observed, now: datetime
) -> tuple[Pending, ...]:
    """Why pods do not run, the most frequent reason first."""
    old = observed.status

    def entry(reason: str, count: int, message: str) -> Pending:
        since = format_time(min(old.waiting_since(reason) or now, now))
        return Pending(reason=reason, count=count, message=shortened(message), since=since)

    found = [pod.waiting for pod in present if pod.waiting is not None and pod.ending is None]
    counts = Counter(waiting.reason for waiting in found)
    messages = {waiting.reason: waiting.message for waiting in reversed(found)}
    entries = [
        entry(reason, count, messages[reason]) for reason, count in counts.most_common(MAX_PENDING)
    ]
    if observed.refusal is not None:
        missing = max(1, spec.size - len(present))
        message = without_names(observed.refusal.message)
        entries.insert(0, entry(str(Reason.REFUSED), missing, message))
    return tuple(entries)


def _condition(
    type_: ConditionType, holds: bool, reason: Reason, message: str, spec: JobSpec
) -> Condition:
    return condition(type_, holds, reason, message, generation=spec.generation)


def _scheduled(spec: JobSpec, present: list[Pod]) -> Condition:
    placed = sum(pod.node is not None or pod.ending is not None for pod in present)
    message = f"{placed} of {spec.size} pods have a node"
    holds = placed >= spec.size
    reason = Reason.ALL_SCHEDULED if holds else Reason.WAITING_FOR_NODES
    return _condition(ConditionType.SCHEDULED, holds, reason, message, spec)


def _ready(spec: JobSpec, up: int) -> Condition:
    holds = up >= spec.size
    reason = Reason.ALL_READY if holds else Reason.WAITING_FOR_REPLICAS
    message = f"{up} of {spec.size} replicas are ready or have succeeded"
    return _condition(ConditionType.READY, holds, reason, message, spec)


def _without_pods(status: Status, spec: JobSpec) -> Status:
    """The status between two attempts: nothing of the next one exists."""
    return replace(
        _described(spec, status),
        ready_ratio=f"0/{spec.size}",
        replicas=0,
        ready=0,
        succeeded=0,
        failed=0,
        ready_time=None,
        pending=(),
    )


def suspended(spec: JobSpec, status: Status, now: datetime) -> Status:
    """No pods, by the author's or a queue's wish; time does not count, the size is open."""
    idle = replace(
        _without_pods(status, spec),
        phase=str(Phase.SUSPENDED),
        size=None,
        wanted=None,
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
    """The next attempt has a number; its pods are made when the old ones have stopped."""
    moved = replace(status, restarts=status.restarts + counted)
    return _next_attempt(spec, moved, (Phase.RESTARTING, Reason.RESTARTING, message), now)


def resizing(spec: JobSpec, status: Status, message: str, now: datetime) -> Status:
    """The next attempt is of another size; `spec` has it."""
    moved = replace(status, resizes=status.resizes + 1)
    return _next_attempt(spec, moved, (Phase.RESIZING, Reason.RESIZING, message), now)


def _next_attempt(
    spec: JobSpec, status: Status, why: tuple[Phase, Reason, str], now: datetime
) -> Status:
    phase, reason, message = why
    moved = replace(status, attempt=status.attempt + 1, phase=str(phase))
    off = [
        _condition(ConditionType.SCHEDULED, False, reason, "", spec),
        _condition(ConditionType.READY, False, reason, message, spec),
    ]
    return with_conditions(_without_pods(moved, spec), off, now)


def failed(spec: JobSpec, status: Status, reason: Reason, message: str, now: datetime) -> Status:
    """The job is over: a restart would be one too many."""
    ended = replace(status, phase=str(Phase.FAILED), ready=0, terminating=0, pending=())
    changed = [
        _condition(ConditionType.READY, False, Reason.FINISHED, "", spec),
        _condition(ConditionType.FAILED, True, reason, message, spec),
    ]
    return with_conditions(ended, changed, now)


def invalid(status: Status, message: str, generation: int, now: datetime) -> Status:
    """The job is over before it began: it cannot be run as it is written."""
    sentence = condition(
        ConditionType.FAILED, True, Reason.INVALID_SPEC, message, generation=generation
    )
    ended = replace(status, phase=str(Phase.FAILED), observed_generation=generation, pending=())
    return with_conditions(ended, [sentence], now)


def succeeded(spec: JobSpec, status: Status, now: datetime) -> Status:
    """The job is over, and every replica has done its work."""
    ended = replace(
        status,
        phase=str(Phase.SUCCEEDED),
        completion_time=format_time(now),
        terminating=0,
        pending=(),
    )
    changed = [
        _condition(ConditionType.READY, False, Reason.FINISHED, "", spec),
        _condition(
            ConditionType.COMPLETE,
            True,
            Reason.SUCCEEDED,
            f"All {spec.size} replicas have succeeded",
            spec,
        ),
    ]
    return with_conditions(ended, changed, now)
