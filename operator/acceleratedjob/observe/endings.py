"""How the training container of a pod ended, from the statuses of the container and the pod."""

from dataclasses import dataclass
from datetime import datetime

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.observe.containers import OVER
from acceleratedjob.observe.progress import Progress
from acceleratedjob.observe.termination import (
    Hang,
    LastWords,
    last_part,
    read_final,
    read_hang,
    read_last_words,
    read_stopped,
    says_stopped,
)

SIGNAL_BASE = 128  # shells and container runtimes report signal n as the exit code 128 + n
_GENERIC = ("Error", "Completed", "ContainerStatusUnknown", names.Reason.CONTAINER_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the training container of a pod ended.

    A reason of the pod (Evicted, DeadlineExceeded, ...) is why its containers were stopped. It is
    preferred to the reason of the container, which then only describes how the process reacted.

    Attributes:
        exit_code: the exit code; None if the pod ended without the status of a container. It is 143
            instead of 0 if the process says that it has stopped on request: the training is not
            complete.
        reason: the reason of the pod, or else of the container: Error, OOMKilled, Evicted, ...
        message: the message that belongs to the reason.
        time: when the container ended.
        last_words: the exception that ended the process, if the process reported it.
        container_reason: the reason of the container, if `reason` is that of the pod.
        hang: the verdict that the training hung, if the process left one.
        says_stopped: whether the process says that it has stopped on request.
        stopped_at: the step of the checkpoint with which it has stopped on request; None if it does
            not say that it has.
        progress: how far the training came, if it says so.
    """

    exit_code: int | None
    reason: str
    message: str
    time: datetime
    last_words: LastWords | None = None
    container_reason: str | None = None
    hang: Hang | None = None
    says_stopped: bool = False
    stopped_at: int | None = None
    progress: Progress | None = None

    @property
    def step(self) -> int | None:
        """The number of completed steps at the end; None if it was not reported."""
        return self.stopped_at if self.last_words is None else self.last_words.step

    @property
    def signal(self) -> int | None:
        """The number of the signal that terminated the process; None if none did."""
        code = self.exit_code or 0
        return code - SIGNAL_BASE if SIGNAL_BASE < code <= SIGNAL_BASE + 64 else None

    @property
    def is_pods(self) -> bool:
        """Whether the reason is that of the pod, so the whole pod was stopped."""
        return self.container_reason is not None

    @property
    def reasons(self) -> frozenset[str]:
        """All reasons: that of the pod, and that of the container unless it is a generic one."""
        own = self.container_reason
        return frozenset({self.reason} if own is None or own in _GENERIC else {self.reason, own})


def read_ending(status: View, trainer: View) -> Ending | None:
    """Return how a pod ended; None if its training container has not ended.

    Args:
        status: the status of the pod.
        trainer: the status of its training container; empty if there is none yet.
    """
    ended: View = (trainer.get("state") or {}).get("terminated") or {}
    if ended:
        return _container_ending(status, ended)
    if status.get("phase") not in OVER:
        return None
    return Ending(  # evicted, rejected by its node, or an init container has failed
        exit_code=0 if status["phase"] == "Succeeded" else None,
        reason=status.get("reason") or names.Reason.CONTAINER_FAILED,
        message=status.get("message") or _failed_init(status),
        time=_last_change(status),
    )


def _container_ending(status: View, ended: View) -> Ending:
    message, at = ended.get("message") or "", ended.get("finishedAt")
    code, has_stopped = ended["exitCode"], says_stopped(message)
    own = ended.get("reason") or names.Reason.CONTAINER_FAILED
    pods = status.get("reason") if status.get("phase") == "Failed" else None
    progress = read_final(message)
    said = "" if progress is not None or has_stopped else last_part(message)
    return Ending(
        exit_code=names.STOPPED_EXIT_CODE if code == 0 and has_stopped else code,
        reason=pods or own,
        message=(pods and status.get("message")) or said,
        time=parse_time(at) if at else _last_change(status),
        last_words=read_last_words(message),
        container_reason=own if pods else None,
        hang=read_hang(message),
        says_stopped=has_stopped,
        stopped_at=read_stopped(message),
        progress=progress,
    )


def _last_change(status: View) -> datetime:
    times = [entry.get("lastTransitionTime") for entry in status.get("conditions") or ()]
    known = [time for time in [*times, status.get("startTime")] if time]
    return max(map(parse_time, known), default=names.EPOCH)


def _failed_init(status: View) -> str:
    """Return a message about a failed init container, after which the training never started."""
    for entry in status.get("initContainerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = f": {last_part(ended['message'])}" if ended.get("message") else ""
            return f"init container {entry['name']} exited with code {ended['exitCode']}{said}"
    return ""
