"""Deadlines of a job, and all other points in time at which its plan changes."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from acceleratedjob.api.names import ConditionType, Reason
from acceleratedjob.api.reasons import CANNOT_START
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import parse_time
from acceleratedjob.planner import failure_policy
from acceleratedjob.planner.freshness import becomes_stale
from acceleratedjob.planner.state import UNSCHEDULABLE_PATIENCE


def active(spec: JobSpec, status: Status) -> datetime | None:
    """Return when activeDeadlineSeconds ends, counted from the start or the last resumption."""
    return _after(status.start_time, spec.active_deadline_seconds)


def startup(spec: JobSpec, status: Status) -> datetime | None:
    """Return when startupDeadlineSeconds ends; None if all replicas have been ready.

    It counts from the start of the job, the end of the backoff, or the end of the last attempt.
    """
    seconds = spec.startup_deadline_seconds
    if seconds is None or status.start_time is None or status.ready_time is not None:
        return None
    ready = status.condition(ConditionType.READY)
    begins = [parse_time(status.start_time)]
    if ready is not None and ready.status == "False":
        begins.append(parse_time(ready.last_transition_time))
    backoff = failure_policy.backoff_end(spec, status)
    if backoff is not None:
        begins.append(backoff)
    return max(begins) + timedelta(seconds=seconds)


def deletion(spec: JobSpec, status: Status) -> datetime | None:
    """Return when ttlSecondsAfterFinished deletes a finished job."""
    ends = (status.condition(type_) for type_ in (ConditionType.COMPLETE, ConditionType.FAILED))
    times = [end.last_transition_time for end in ends if end is not None and end.status == "True"]
    return _after(times[0] if times else None, spec.ttl_seconds_after_finished)


def _after(begin: str | None, seconds: int | None) -> datetime | None:
    if begin is None or seconds is None:
        return None
    return parse_time(begin) + timedelta(seconds=seconds)


def due(spec: JobSpec, status: Status) -> Iterator[datetime]:
    """Yield the times at which the plan changes even if no object changes."""
    if status.finished:
        yield from _known(deletion(spec, status))
        return
    yield from _known(active(spec, status), startup(spec, status), becomes_stale(spec, status))
    for wait in status.waits:
        if wait.reason in CANNOT_START:
            yield parse_time(wait.since) + CANNOT_START[wait.reason]
        elif wait.reason == Reason.UNSCHEDULABLE and spec.elastic is not None:
            yield parse_time(wait.since) + UNSCHEDULABLE_PATIENCE


def _known(*times: datetime | None) -> Iterator[datetime]:
    return (time for time in times if time is not None)
