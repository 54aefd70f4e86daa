"""The failures that end an attempt, and which of them was the first.

When one replica fails, the collectives of the others fail. Only the first failure is reported, and
decides what follows; the other replicas are its victims.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from acceleratedjob.api.clocks import Clocks
from acceleratedjob.api.names import EPOCH, Reason, pod_name
from acceleratedjob.api.reasons import CANNOT_START, alike
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.api.status import Status
from acceleratedjob.observe.observed import Observed
from acceleratedjob.observe.pod import Pod
from acceleratedjob.observe.termination import HANGS

# Reasons of a pod that its node has stopped; not all of them come with a DisruptionTarget.
_TAKEN_BY_NODE = ("NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated")

CLOCKS_DIFFER = timedelta(seconds=2)  # those of two nodes, or of a node and the API server

MISSING_PROCESSES = "MissingProcesses"  # the runtime's exception for a missing peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The failure of one replica, which ends its attempt.

    Attributes:
        pod: the pod of the replica.
        reason: the reason, such as OOMKilled.
        message: a sentence whose subject is the replica.
        time: when it failed.
        is_ours: whether the container failed by itself, rather than being stopped by the cluster.
        rank: the rank that has stalled, if the training has and the rank is known.
        since: since when it had stalled, if it has.
    """

    pod: Pod
    reason: str
    message: str
    time: datetime
    is_ours: bool
    rank: int | None = None
    since: str | None = None

    @property
    def reasons(self) -> frozenset[str]:
        """All reasons of the failure, any of which a rule may name."""
        pod, words = self.pod, {self.reason, *alike(self.reason)}
        if pod.disrupted is not None:
            words.add(pod.disrupted)
        return frozenset(words) | (pod.ending.reasons if pod.ending and self.is_ours else set())

    @property
    def _order(self) -> tuple[bool, datetime, bool, bool, int]:
        """The sort key: by time; within a second, stopped by the cluster first, then by a signal.

        What stops a pod began before the pod ended, and the others may fail meanwhile. A replica
        that reports missing peers comes last: the clocks of nodes may differ.
        """
        ending = self.pod.ending
        signalled = ending is not None and ending.signal is not None
        words = ending.last_words if ending else None
        is_victim = self.is_ours and words is not None and _misses_others(words.exception)
        began = self.time if self.is_ours else min(self.time, self._asked_at - CLOCKS_DIFFER)
        return (is_victim, began, self.is_ours, not signalled, self.pod.index)

    @property
    def _asked_at(self) -> datetime:
        """When the cluster, or a user, began to stop the pod; when it ended if that is unknown."""
        pod = self.pod
        disrupted_at = None if pod.disrupted_at == EPOCH else pod.disrupted_at
        known = (time for time in (pod.deleted_at, disrupted_at) if time is not None)
        return min(known, default=self.time)

    def __lt__(self, other: "Cause") -> bool:
        """Whether this failure is more likely to be the first."""
        return self._order < other._order


def _misses_others(exception: str) -> bool:
    return exception.endswith(MISSING_PROCESSES)


def causes(observed: Observed, now: datetime) -> Iterable[Cause]:
    """The replicas of the current attempt that have failed, or are being deleted or evicted.

    Args:
        observed: the observed state, reduced to the attempt by `Observed.members`.
        now: the current time.
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
    """Return the cause for a pod that the cluster stops; the pod's own reason is preferred."""
    reason = pod.reason or str(pod.disrupted)
    why = f"{reason}: {pod.ending.message}" if pod.ending and pod.ending.is_pods else reason
    message = f"was stopped by the cluster ({why})"
    return Cause(pod=pod, reason=reason, message=message, time=at, is_ours=False)


def _stuck(pod: Pod, clocks: Clocks, now: datetime) -> list[Cause]:
    """Return the cause if a container could not be created for longer than a temporary problem."""
    waiting = pod.waiting
    if waiting is None or waiting.reason not in CANNOT_START:
        return []
    since = clocks.since(waiting.reason, pod.index) or now
    if now - since < CANNOT_START[waiting.reason]:
        return []
    message = f"cannot start ({waiting.reason}): {waiting.message}"
    return [Cause(pod=pod, reason=waiting.reason, message=message, time=now, is_ours=True)]


def vanished(spec: JobSpec, status: Status, index: int, now: datetime) -> Cause:
    """Return the cause for a replica whose pod disappeared while no operator was running."""
    name = pod_name(spec.name, status.attempt, index)
    pod = Pod(name=name, uid="", attempt=status.attempt, index=index)
    return _deleted(pod, now)


def _deleted(pod: Pod, at: datetime) -> Cause:
    sentence = "was deleted, but not by this operator"
    return Cause(pod=pod, reason=Reason.POD_DELETED, message=sentence, time=at, is_ours=False)


def _describe(pod: Pod) -> str:
    """Return a message about how a failed container ended.

    The kubelet's reason "Error" is left out: it adds nothing to the exit code.
    """
    ending = pod.ending
    if ending is None:
        return ""
    words = [] if ending.exit_code is None else [f"exited with code {ending.exit_code}"]
    if ending.signal is not None:
        words = [f"was terminated by signal {ending.signal}"]
    if ending.reason not in ("Error", Reason.CONTAINER_FAILED):
        words.append(f"({ending.reason})")
    sentence = " ".join(words) or "failed"
    told = None if ending.is_pods else ending.last_words
    said = told.sentence if told else ending.message
    if ending.says_stopped and not ending.is_pods:
        at = ending.stopped_at
        how = "by its script" if at is None else f"with a checkpoint of step {at}"
        said = f"stopped on request, {how}"
    if ending.hang is not None and not ending.is_pods:
        only = told is not None and told.exception == HANGS
        said = (
            ending.hang.sentence if only else "; ".join(filter(None, (said, ending.hang.sentence)))
        )
    return f"{sentence}: {said.strip()}" if said else sentence


def subject(pod: Pod) -> str:
    """Return the replica of a pod, as the subject of a sentence."""
    node = f" on node {pod.node}" if pod.node else ""
    return f"Replica {pod.index} (pod {pod.name}{node})"
