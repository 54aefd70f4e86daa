"""The times by which a job must be up, or over, and after which it is deleted."""

from datetime import datetime, timedelta

from acceleratedjob import restart
from acceleratedjob.api import ConditionType, parse_time
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status


def active(spec: JobSpec, status: Status) -> datetime | None:
    """When the job must be over; its time counts from its start, or from its last resumption."""
    return _after(status.start_time, spec.active_deadline_seconds)


def startup(spec: JobSpec, status: Status) -> datetime | None:
    """When all replicas of this attempt must be up; None if they were.

    An attempt begins with the job, when its backoff is over, or when the one before it was left.
    """
    seconds = spec.startup_deadline_seconds
    if seconds is None or status.start_time is None or status.ready_time is not None:
        return None
    ready = status.condition(ConditionType.READY)
    begins = [parse_time(status.start_time)]
    if ready is not None and ready.status == "False":
        begins.append(parse_time(ready.last_transition_time))
    backoff = restart.backoff_end(spec, status)
    if backoff is not None:
        begins.append(backoff)
    return max(begins) + timedelta(seconds=seconds)


def deletion(spec: JobSpec, status: Status) -> datetime | None:
    """When a job that is over is deleted."""
    ends = (status.condition(type_) for type_ in (ConditionType.COMPLETE, ConditionType.FAILED))
    times = [end.last_transition_time for end in ends if end is not None and end.status == "True"]
    return _after(times[0] if times else None, spec.ttl_seconds_after_finished)


def _after(begin: str | None, seconds: int | None) -> datetime | None:
    if begin is None or seconds is None:
        return None
    return parse_time(begin) + timedelta(seconds=seconds)
