"""`spec.stallDeadlineSeconds`: ends an attempt that hangs, or whose rank 0 does not answer.

The clock is `status.stall`, so that it outlives the operator.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.names import Reason
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.api.training import HANG, SILENCE, Stall
from acceleratedjob.observe.observed import Observed, Told
from acceleratedjob.observe.progress import Verdict, VerdictKind
from acceleratedjob.planner.failures import Cause

_SECOND = timedelta(seconds=1)


def current(spec: JobSpec, status: Status, told: Told, now: datetime) -> Stall | None:
    """Return since when an attempt has stalled; None if it has not, or may for any time.

    What the status says stands until something else is heard, also by another operator.

    Args:
        spec: the spec of the job.
        status: the status as last written.
        told: what the attempt has told.
        now: the current time.
    """
    if spec.stall_deadline_seconds is None or status.ready_time is None:
        return None
    known, progress = status.stall, told.progress
    if progress is None and not told.silent_for:
        return known
    if told.silent_for:
        begin = max(now - told.silent_for, parse_time(status.ready_time))
        found = Stall(reason=SILENCE, since=_whole(begin, now))
    elif progress is not None and progress.verdict(VerdictKind.HANG) is not None:
        begin = now - told.hangs_for
        found = Stall(reason=HANG, since=_whole(begin, now), life=progress.life, step=progress.step)
    else:
        return None
    return known if known is not None and _goes_on(known, found, now) else found


def causes(spec: JobSpec, observed: Observed, attempt: Attempt, now: datetime) -> list[Cause]:
    """Return the cause that ends an attempt if it has stalled for too long; empty if it has not.

    Args:
        spec: the spec of the job.
        observed: the observed state, reduced to the attempt by `Observed.members`.
        attempt: the attempt.
        now: the current time.
    """
    told, deadline = observed.told, spec.stall_deadline_seconds
    stall = current(spec, observed.status, told, now)
    if stall is None or deadline is None or not _are_up(observed, attempt):
        return []
    lasted = now - parse_time(stall.since)
    if lasted < timedelta(seconds=deadline):
        return []
    verdict = told.progress.verdict(VerdictKind.HANG) if told.progress is not None else None
    if stall.reason == SILENCE:
        return [_silent(spec, observed, stall, lasted, now)] if told.silent_for else []
    return [_hanging(verdict, stall, observed, attempt, now)] if verdict is not None else []


def _goes_on(known: Stall, found: Stall, now: datetime) -> bool:
    """Whether a stall is the known one; a time in the future was written by a wrong clock."""
    return replace(found, since=known.since) == known and parse_time(known.since) <= now


def _whole(since: datetime, now: datetime) -> str:
    """Format a time, rounded up: a deadline must not end too early."""
    return format_time(min(since + _SECOND - timedelta.resolution, now))


def _are_up(observed: Observed, attempt: Attempt) -> bool:
    """Whether all replicas run or have succeeded, and replica 0 still runs.

    All were ready before; a replica that hangs may be ready no longer.
    """
    running = {pod.index for pod in observed.pods if pod.running}
    up = len(running.union(i for i in observed.completed if i < attempt.size))
    return 0 in running and 0 not in observed.completed and up >= attempt.size


def _hanging(
    verdict: Verdict, stall: Stall, observed: Observed, attempt: Attempt, now: datetime
) -> Cause:
    """Return the cause with the verdict of the runtime; a rank that cannot be is left out."""
    pods = {pod.index: pod for pod in observed.pods}
    rank = verdict.rank
    index = 0 if rank is None else rank // attempt.processes
    return Cause(
        pod=pods.get(index, pods[0]),
        reason=Reason.STALLED,
        message=f"has stalled: {verdict.text}",
        time=now,
        is_ours=True,
        rank=rank if index in pods else None,
        since=verdict.since or stall.since,
    )


def _silent(
    spec: JobSpec, observed: Observed, stall: Stall, lasted: timedelta, now: datetime
) -> Cause:
    message = (
        f"has stalled: it has not answered at its progress port ({spec.network.progress_port}) for "
        f"{lasted.total_seconds():.0f} s; it must use the runtime, and accept connections from "
        "the operator"
    )
    return Cause(
        pod=next(pod for pod in observed.pods if pod.index == 0),
        reason=Reason.STALLED,
        message=message,
        time=now,
        is_ours=True,
        since=stall.since,
    )
