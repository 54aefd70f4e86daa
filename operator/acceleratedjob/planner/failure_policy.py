"""`spec.failurePolicy`: an ordered list of rules decides what follows a failed attempt.

The rules of the job come first, then the default rules; the first rule that matches decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from acceleratedjob.api.names import STOPPED_EXIT_CODE, Reason
from acceleratedjob.api.reasons import CANNOT_START
from acceleratedjob.api.sections import WITHOUT_PROGRESS, Backoff, FailureRule, Verdict
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Failure, Status, shortened
from acceleratedjob.api.times import format_time, parse_time
from acceleratedjob.observe.pod import Pod
from acceleratedjob.planner import progress
from acceleratedjob.planner.failures import Cause, subject

# Reasons of a container runtime for a program that it cannot execute; a restart does not help.
_CANNOT_RUN = ("StartError", "ContainerCannotRun")
# Exit codes of a shell for a command that cannot be executed, and for a command not found.
_NO_COMMAND = (126, 127)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict about a failure.

    Attributes:
        verdict: what follows the failed attempt.
        reason: the reason of the condition and of the Event.
        message: the message of both.
    """

    verdict: Verdict
    reason: Reason
    message: str


def _taken_away(cause: Cause) -> bool:
    """The pod was preempted, drained or deleted, which is not the training's fault."""
    return not cause.is_ours


def _stopped_on_request(cause: Cause) -> bool:
    """The process was asked to stop, and exited with the exit code for that.

    Any program that SIGTERM terminates has this exit code, also one that nobody has asked to stop
    for a good reason, such as one that fails its liveness probe. So the runtime must have reported
    its checkpoint, or the whole pod must have been asked to stop.
    """
    ending = cause.pod.ending
    if ending is None or ending.exit_code != STOPPED_EXIT_CODE:
        return False
    return ending.stopped_at is not None or cause.pod.asked_to_stop


def _cannot_start(cause: Cause) -> bool:
    """The image or the configuration of the container is invalid."""
    ending = cause.pod.ending
    if ending is not None and ending.exit_code in _NO_COMMAND:
        return True
    return cause.reason in CANNOT_START or cause.reason in _CANNOT_RUN


def _any(_cause: Cause) -> bool:
    return True


# They apply after the job's own rules; the first that matches decides.
DEFAULT_RULES: tuple[tuple[Callable[[Cause], bool], Verdict, Reason, str], ...] = (
    (_taken_away, Verdict.RESTART_FREE, Reason.RESTARTING, ""),
    (_stopped_on_request, Verdict.RESTART_FREE, Reason.RESTARTING, ""),
    (_cannot_start, Verdict.FAIL, Reason.CANNOT_START, "a restart would not help"),
    (_any, Verdict.RESTART, Reason.RESTARTING, ""),
)


def matches(rule: FailureRule, cause: Cause) -> bool:
    """Whether a rule of the job matches: each non-empty list contains a value of the failure."""
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
    """Decide what follows the first failure of an attempt."""
    verdict, reason, why = _judge(cause, status, spec)
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


def _judge(cause: Cause, status: Status, spec: JobSpec) -> tuple[Verdict, Reason, str]:
    """Return the verdict, its reason, and the rule of the job that matched, if one did."""
    for i, rule in enumerate(spec.failure_policy.rules):
        if matches(rule, cause):
            fails = rule.action is Verdict.FAIL
            reason = Reason.FAILURE_POLICY if fails else Reason.RESTARTING
            return rule.action, reason, f"spec.failurePolicy.rules[{i}]"
    verdict, reason, why = next(row[1:] for row in DEFAULT_RULES if row[0](cause))
    if verdict is not Verdict.RESTART:
        return verdict, reason, why
    end = _end_of(cause)
    if progress.is_stuck(end, status.ends):
        row = f"{progress.MAX_EQUAL_ENDS} attempts in a row"
        return (
            Verdict.FAIL,
            Reason.NO_PROGRESS,
            f"{row} ended with {end.exception} at step {end.step}",
        )
    counts = spec.failure_policy.count_restarts
    if counts == WITHOUT_PROGRESS and progress.has_newer_checkpoint(cause, status):
        return Verdict.RESTART_FREE, reason, "the attempt has written a newer checkpoint"
    return verdict, reason, why


def _end_of(cause: Cause) -> progress.End:
    """Return where and how the attempt of a failure has ended."""
    words = cause.pod.ending.last_words if cause.pod.ending else None
    if words is None:
        return progress.End(cause.pod.attempt, None, None)
    return progress.End(cause.pod.attempt, words.step, words.exception)


def failure(
    cause: Cause, processes: int, *, checkpoint: int | None = None, victims: int = 0
) -> Failure:
    """Return the entry for the status.

    Args:
        cause: the failure.
        processes: the number of processes per replica.
        checkpoint: the step of the newest checkpoint on storage; None if none is known.
        victims: the number of other replicas that have failed.
    """
    pod, ending = cause.pod, cause.pod.ending
    words = ending.last_words if ending else None
    return Failure(
        attempt=pod.attempt,
        replica=pod.index,
        rank=_rank(pod, processes) if cause.since is None else cause.rank,
        pod=pod.name,
        node=pod.node,
        exit_code=ending.exit_code if ending else None,
        signal=ending.signal if ending else None,
        reason=str(cause.reason),
        message=shortened(cause.message),
        time=format_time(cause.time),
        exception=words.exception if words else None,
        traceback=(words.traceback or None) if words else None,
        step=words.step if words else ending.stopped_at if ending else None,
        checkpoint=checkpoint,
        victims=victims,
        since=cause.since or _hung_since(cause),
    )


def _hung_since(cause: Cause) -> str | None:
    """Return since when the training hung by the words of the process, if it did."""
    hang = cause.pod.ending.hang if cause.pod.ending else None
    return format_time(hang.since) if hang is not None and hang.since is not None else None


def _rank(pod: Pod, processes: int) -> int | None:
    """Return the rank that failed; with several processes per pod, only a reported rank."""
    if processes == 1:
        return pod.index
    words = pod.ending.last_words if pod.ending else None
    told = words.rank if words else None
    return told if told is not None and told // processes == pod.index else None


def in_a_row(
    status: Status, backoff: Backoff, now: datetime, *, has_progressed: bool = False
) -> int:
    """Return the number of consecutive failed attempts, including the one that fails now.

    An attempt that was ready for longer than the maximum backoff resets the count: its failure
    probably has another cause. So does an attempt that has written a newer checkpoint.

    Args:
        status: the status before the failure.
        backoff: the backoff of the job.
        now: the current time.
        has_progressed: whether the attempt has written a newer checkpoint than those before.
    """
    longest = timedelta(seconds=backoff.max_seconds)
    was_up = status.ready_time is not None and now - parse_time(status.ready_time) > longest
    return 1 if was_up or has_progressed else status.failures_in_a_row + 1


def backoff_end(spec: JobSpec, status: Status) -> datetime | None:
    """Return when the current attempt may start; None if the previous one did not fail."""
    newest = status.ends[:1]
    if not newest or newest[0].attempt != status.attempt - 1:
        return None
    wait = delay(spec.failure_policy.backoff, status.failures_in_a_row)
    return parse_time(newest[0].time) + wait


def delay(backoff: Backoff, in_a_row: int) -> timedelta:
    """Return the backoff before the next attempt; it doubles with each consecutive failure.

    >>> [delay(Backoff(initial_seconds=1, max_seconds=10), n).seconds for n in range(6)]
    [1, 1, 2, 4, 8, 10]
    """
    doublings = min(max(0, in_a_row - 1), 32)
    return timedelta(seconds=min(backoff.initial_seconds * 2**doublings, backoff.max_seconds))
