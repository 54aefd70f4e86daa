"""Why an attempt is over: every replica's end that ends it, and which of them was first.

When one replica of a gang fails the others fail after it, in their collectives. Only the first
cause is reported and judged; its victims are not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from acceleratedjob.api import Reason, pod_name
from acceleratedjob.clocks import Clocks
from acceleratedjob.observe import Observed, Pod
from acceleratedjob.spec import JobSpec
from acceleratedjob.status import Status
from acceleratedjob.waits import CANNOT_START, alike

# Of a pod: its node has taken it away, which does not always come with a DisruptionTarget.
_TAKEN_BY_NODE = ("NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated")

MISSING_PROCESSES = "MissingProcesses"  # what the runtime raises where a peer does not come


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One replica's end that ends its attempt."""

    pod: Pod
    reason: str
    message: str
    time: datetime
    is_ours: bool  # the container failed by itself, rather than being taken away

    @property
    def reasons(self) -> frozenset[str]:
        """All words for it, any of which a rule may have."""
        pod, words = self.pod, {self.reason, *alike(self.reason)}
        if pod.disrupted is not None:
            words.add(pod.disrupted)
        return frozenset(words) | (pod.ending.reasons if pod.ending and self.is_ours else set())

    @property
    def _order(self) -> tuple[bool, datetime, bool, bool, int]:
        """Earliest first; within a second what was taken away, then what a signal ended.

        One whose last words are that others did not come is last: nodes' clocks may differ.
        """
        ending = self.pod.ending
        signalled = ending is not None and ending.signal is not None
        words = ending.last_words if ending else None
        is_victim = words is not None and words.exception.endswith(MISSING_PROCESSES)
        return (is_victim, self.time, self.is_ours, not signalled, self.pod.index)

    def __lt__(self, other: "Cause") -> bool:
        """Whether this is the likelier first cause."""
        return self._order < other._order


def causes(observed: Observed, now: datetime) -> Iterable[Cause]:
    """Every member of the current attempt that has failed or is being taken away.

    Args:
        observed: the members of the attempt, see `Observed.members`.
        now: the time.
    """
    completed, clocks = observed.completed, observed.status.clocks
    for pod in observed.pods:
        if pod.index not in completed:
            yield from _cause(pod, clocks, now)
    for pod in observed.lost:
        if pod.index not in completed:
            yield from _cause(pod, clocks, now) or [_deleted(pod, now)]


def _cause(pod: Pod, clocks: Clocks, now: datetime) -> list[Cause]:
    ending = pod.ending
    at = min(ending.time if ending else pod.deleted_at or now, now)  # a node's clock may be ahead
    if pod.disrupted is not None or pod.reason in _TAKEN_BY_NODE:
        return [_taken_away(pod, at)]
    if pod.deleted_at is not None and (ending is None or pod.deleted_at <= ending.time):
        return [_deleted(pod, pod.deleted_at)]
    if ending is not None:
        message = _describe(pod)
        return [Cause(pod=pod, reason=ending.reason, message=message, time=at, is_ours=True)]
    return _stuck(pod, clocks, now)


def _taken_away(pod: Pod, at: datetime) -> Cause:
    """A pod that the cluster takes away: its own reason says more than the condition's."""
    reason = pod.reason or str(pod.disrupted)
    why = f"{reason}: {pod.ending.message}" if pod.ending and pod.ending.is_pods else reason
    message = f"was taken away by the cluster ({why})"
    return Cause(pod=pod, reason=reason, message=message, time=at, is_ours=False)


def _stuck(pod: Pod, clocks: Clocks, now: datetime) -> list[Cause]:
    """A pod whose container cannot be made, for longer than what may pass by itself."""
    waiting = pod.waiting
    if waiting is None or waiting.reason not in CANNOT_START:
        return []
    since = clocks.since(waiting.reason, pod.index) or now
    if now - since < CANNOT_START[waiting.reason]:
        return []
    message = f"cannot start ({waiting.reason}): {waiting.message}"
    return [Cause(pod=pod, reason=waiting.reason, message=message, time=now, is_ours=True)]


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
    told = None if ending.is_pods else ending.last_words
    said = told.sentence if told else ending.message
    return f"{sentence}: {said.strip()}" if said else sentence


def subject(pod: Pod) -> str:
    """A replica, as the beginning of a sentence."""
    node = f" on node {pod.node}" if pod.node else ""
    return f"Replica {pod.index} (pod {pod.name}{node})"
