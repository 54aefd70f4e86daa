"""What follows from a failed attempt: the first cause decides, by an ordered list of rules.

When one replica of a gang fails the others fail after it, in their collectives. Only the first
cause is reported and judged; its victims are not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from acceleratedjob.api import Reason, pod_name
from acceleratedjob.observe import Observed, Pod
from acceleratedjob.spec import Backoff, JobSpec
from acceleratedjob.status import Failure, Status, format_time, shortened


class Verdict(Enum):
    """What happens to the job."""

    RESTART = auto()  # a new attempt, which counts towards maxRestarts
    RESTART_FREE = auto()  # a new attempt that does not: the job is not to blame
    FAIL = auto()  # the job is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One replica's end that ends its attempt."""

    pod: Pod
    reason: str
    message: str
    time: datetime
    is_ours: bool  # the container failed by itself, rather than being taken away

    @property
    def _order(self) -> tuple[datetime, bool, bool, int]:
        """Earliest first; within a second what was taken away, then what a signal ended."""
        ending = self.pod.ending
        signalled = ending is not None and ending.signal is not None
        return (self.time, self.is_ours, not signalled, self.pod.index)

    def __lt__(self, other: "Cause") -> bool:
        """Whether this is the likelier first cause."""
        return self._order < other._order


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict and its reason."""

    verdict: Verdict
    reason: Reason
    message: str


def causes(observed: Observed, now: datetime) -> Iterable[Cause]:
    """Every pod of the current attempt that has failed or is being taken away."""
    attempt = observed.status.attempt
    for pod in observed.pods:
        if pod.attempt == attempt and not pod.succeeded:
            yield from _cause(pod, now)
    for pod in observed.lost:
        if pod.attempt == attempt and not pod.succeeded:
            yield from _cause(pod, now) or [_deleted(pod, now)]


def _cause(pod: Pod, now: datetime) -> list[Cause]:
    ending = pod.ending
    at = ending.time if ending else pod.deleted_at or now
    if pod.disrupted is not None:
        message = f"was taken away by the cluster ({pod.disrupted})"
        return [Cause(pod=pod, reason=pod.disrupted, message=message, time=at, is_ours=False)]
    if pod.deleted_at is not None and (ending is None or pod.deleted_at <= ending.time):
        return [_deleted(pod, pod.deleted_at)]
    if ending is not None:
        message = _describe(pod)
        return [Cause(pod=pod, reason=ending.reason, message=message, time=at, is_ours=True)]
    return []


def vanished(spec: JobSpec, status: Status, index: int, now: datetime) -> Cause:
    """A replica whose pod was there and is not, while no operator watched."""
    name = pod_name(spec.name, status.attempt, index)
    pod = Pod(name=name, uid="", attempt=status.attempt, index=index)
    return _deleted(pod, now)


def _deleted(pod: Pod, at: datetime) -> Cause:
    sentence = "was deleted, and not by this operator"
    return Cause(pod=pod, reason=Reason.POD_DELETED, message=sentence, time=at, is_ours=False)


def _describe(pod: Pod) -> str:
    """How a failed container ended, in words.

    The kubelet's "Error" says no more than the exit code does, and so is left out.
    """
    ending = pod.ending
    if ending is None:
        return ""
    words = [] if ending.exit_code is None else [f"exited with code {ending.exit_code}"]
    if ending.signal is not None:
        words = [f"was ended by signal {ending.signal}"]
    if ending.reason not in ("Error", Reason.CONTAINER_FAILED):
        words.append(f"({ending.reason})")
    sentence = " ".join(words) or "failed"
    return f"{sentence}: {ending.message.strip()}" if ending.message else sentence


Rule = Callable[[Cause, Status, JobSpec], Decision | None]


def _taken_away(cause: Cause, _status: Status, _spec: JobSpec) -> Decision | None:
    if cause.is_ours:
        return None
    return Decision(
        verdict=Verdict.RESTART_FREE,
        reason=Reason.RESTARTING,
        message=f"{subject(cause.pod)} {cause.message}; this restart is not counted",
    )


def _restarts_used_up(cause: Cause, status: Status, spec: JobSpec) -> Decision | None:
    limit = spec.failure_policy.max_restarts
    if status.restarts < limit:
        return None
    message = f"{subject(cause.pod)} {cause.message}; maxRestarts is {limit}"
    return Decision(verdict=Verdict.FAIL, reason=Reason.MAX_RESTARTS_EXCEEDED, message=message)


def _counted(cause: Cause, status: Status, spec: JobSpec) -> Decision:
    message = (
        f"{subject(cause.pod)} {cause.message}; "
        f"restart {status.restarts + 1} of {spec.failure_policy.max_restarts}"
    )
    return Decision(verdict=Verdict.RESTART, reason=Reason.RESTARTING, message=message)


# The first that answers decides.
RULES: tuple[Rule, ...] = (
    _taken_away,  # preempted, drained, deleted: the training did nothing wrong
    _restarts_used_up,
    _counted,
)


def decide(cause: Cause, status: Status, spec: JobSpec) -> Decision:
    """The verdict on an attempt's first cause."""
    decisions = (rule(cause, status, spec) for rule in RULES)
    return next(decision for decision in decisions if decision is not None)


def subject(pod: Pod) -> str:
    """A replica, as the beginning of a sentence."""
    node = f" on node {pod.node}" if pod.node else ""
    return f"Replica {pod.index} (pod {pod.name}{node})"


def failure(cause: Cause, spec: JobSpec) -> Failure:
    """The entry for the status."""
    pod, ending = cause.pod, cause.pod.ending
    return Failure(
        attempt=pod.attempt,
        replica=pod.index,
        rank=pod.index if spec.processes == 1 else None,
        pod=pod.name,
        node=pod.node,
        exit_code=ending.exit_code if ending else None,
        signal=ending.signal if ending else None,
        reason=str(cause.reason),
        message=shortened(cause.message),
        time=format_time(cause.time),
    )


def delay(backoff: Backoff, restarts: int) -> timedelta:
    """How long after a failure the next attempt begins; doubles with each counted restart.

    >>> [delay(Backoff(initial_seconds=1, max_seconds=10), n).seconds for n in range(6)]
    [1, 1, 2, 4, 8, 10]
    """
    doublings = min(max(0, restarts - 1), 32)
    return timedelta(seconds=min(backoff.initial_seconds * 2**doublings, backoff.max_seconds))
