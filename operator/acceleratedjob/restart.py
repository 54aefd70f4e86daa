"""What follows from a failed attempt: an ordered list of rules decides on its first cause.

The job's own rules come first, then the default ones; the first that holds is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from acceleratedjob.api import STOPPED_EXIT_CODE, Reason, parse_time
from acceleratedjob.causes import Cause, subject
from acceleratedjob.observe import Pod
from acceleratedjob.sections import Backoff, FailureRule, Verdict
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Failure, Status, format_time, shortened
from acceleratedjob.waits import CANNOT_START

# What a container runtime says of a program that it cannot execute: it never will.
_CANNOT_RUN = ("StartError", "ContainerCannotRun")
# What a shell ends with, for a command that it cannot execute and for one that it cannot find.
_NO_COMMAND = (126, 127)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict and its reason."""

    verdict: Verdict
    reason: Reason
    message: str


def _taken_away(cause: Cause) -> bool:
    """Preempted, drained, deleted: the training did nothing wrong."""
    return not cause.is_ours


def _stopped_on_request(cause: Cause) -> bool:
    """Somebody has asked the process to stop, and it did."""
    return cause.pod.ending is not None and cause.pod.ending.exit_code == STOPPED_EXIT_CODE


def _cannot_start(cause: Cause) -> bool:
    """The image or the container's configuration is wrong."""
    ending = cause.pod.ending
    if ending is not None and ending.exit_code in _NO_COMMAND:
        return True
    return cause.reason in CANNOT_START or cause.reason in _CANNOT_RUN


def _any(_cause: Cause) -> bool:
    return True


# After the job's own rules; the first that holds decides.
DEFAULT_RULES: tuple[tuple[Callable[[Cause], bool], Verdict, Reason, str], ...] = (
    (_taken_away, Verdict.RESTART_FREE, Reason.RESTARTING, ""),
    (_stopped_on_request, Verdict.RESTART_FREE, Reason.RESTARTING, ""),
    (_cannot_start, Verdict.FAIL, Reason.CANNOT_START, "a restart would not help"),
    (_any, Verdict.RESTART, Reason.RESTARTING, ""),
)


def matches(rule: FailureRule, cause: Cause) -> bool:
    """Whether a rule of the job holds: every list that is given has what the failure is."""
    ending = cause.pod.ending
    pairs = (
        (rule.exit_codes, {ending.exit_code} if ending else set()),
        (rule.signals, {ending.signal} if ending else set()),
        (rule.reasons, cause.reasons),
        (rule.pod_conditions, cause.pod.conditions),
        (rule.replica_indexes, {cause.pod.index}),
    )
    return all(not wanted or not found.isdisjoint(wanted) for wanted, found in pairs)


def decide(cause: Cause, status: Status, spec: JobSpec) -> Decision:
    """The verdict on an attempt's first cause."""
    verdict, reason, why = _judge(cause, spec)
    sentence = f"{subject(cause.pod)} {cause.message}"
    by = f" ({why})" if why else ""
    if verdict is Verdict.FAIL:
        return Decision(verdict=verdict, reason=reason, message=f"{sentence}{by}")
    if verdict is Verdict.RESTART_FREE:
        told = f"{sentence}; this restart is not counted{by}"
        return Decision(verdict=verdict, reason=reason, message=told)
    limit = spec.failure_policy.max_restarts
    if status.restarts < limit:
        told = f"{sentence}; restart {status.restarts + 1} of {limit}{by}"
        return Decision(verdict=verdict, reason=reason, message=told)
    told = f"{sentence}; maxRestarts is {limit}"
    return Decision(verdict=Verdict.FAIL, reason=Reason.MAX_RESTARTS_EXCEEDED, message=told)


def _judge(cause: Cause, spec: JobSpec) -> tuple[Verdict, Reason, str]:
    """The verdict, its reason and, if it is not the usual one, what it is from."""
    for i, rule in enumerate(spec.failure_policy.rules):
        if matches(rule, cause):
            fails = rule.action is Verdict.FAIL
            reason = Reason.FAILURE_POLICY if fails else Reason.RESTARTING
            return rule.action, reason, f"spec.failurePolicy.rules[{i}]"
    return next(row[1:] for row in DEFAULT_RULES if row[0](cause))


def failure(cause: Cause, spec: JobSpec, *, victims: int = 0) -> Failure:
    """The entry for the status; `victims` is how many others had failed as well by then."""
    pod, ending = cause.pod, cause.pod.ending
    words = ending.last_words if ending else None
    return Failure(
        attempt=pod.attempt,
        replica=pod.index,
        rank=_rank(pod, spec),
        pod=pod.name,
        node=pod.node,
        exit_code=ending.exit_code if ending else None,
        signal=ending.signal if ending else None,
        reason=str(cause.reason),
        message=shortened(cause.message),
        time=format_time(cause.time),
        exception=words.exception if words else None,
        traceback=(words.traceback or None) if words else None,
        step=words.step if words else None,
        victims=victims,
    )


def _rank(pod: Pod, spec: JobSpec) -> int | None:
    """The rank that has failed; of several processes only the one that has told of itself."""
    if spec.processes == 1:
        return pod.index
    words = pod.ending.last_words if pod.ending else None
    told = words.rank if words else None
    return told if told is not None and told // spec.processes == pod.index else None


def in_a_row(status: Status, backoff: Backoff, now: datetime) -> int:
    """How many attempts have failed in a row, with the one that fails now.

    An attempt that was up for longer than the longest wait does not fail at its start: whatever
    made the ones before it fail is over, and what fails now is new.
    """
    longest = timedelta(seconds=backoff.max_seconds)
    if status.ready_time is not None and now - parse_time(status.ready_time) > longest:
        return 1
    return status.failures_in_a_row + 1


def backoff_end(spec: JobSpec, status: Status) -> datetime | None:
    """When the current attempt may begin, if the one before it has failed."""
    newest = status.failures[:1]
    if not newest or newest[0].attempt != status.attempt - 1:
        return None
    wait = delay(spec.failure_policy.backoff, status.failures_in_a_row)
    return parse_time(newest[0].time) + wait


def delay(backoff: Backoff, in_a_row: int) -> timedelta:
    """How long after a failure the next attempt begins; doubles with each failure in a row.

    >>> [delay(Backoff(initial_seconds=1, max_seconds=10), n).seconds for n in range(6)]
    [1, 1, 2, 4, 8, 10]
    """
    doublings = min(max(0, in_a_row - 1), 32)
    return timedelta(seconds=min(backoff.initial_seconds * 2**doublings, backoff.max_seconds))
