"""How the training container of a pod ended, by the statuses of the container and of the pod."""

from dataclasses import dataclass
from datetime import datetime

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.api.times import parse_time
from acceleratedjob.observe.containers import OVER
from acceleratedjob.observe.termination import LastWords, last_part, read_last_words

SIGNAL_BASE = 128  # a shell's and a container runtime's exit code for a death by signal n is 128+n
_GENERIC = ("Error", "Completed", "ContainerStatusUnknown", names.Reason.CONTAINER_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the training container of a pod ended.

    A reason of the pod (Evicted, DeadlineExceeded, …) is why its containers were stopped. It is
    preferred to the reason of the container, which then only describes how the process reacted.
    """

    exit_code: int | None  # None: the pod was ended before a container could tell
    reason: str  # the kubelet's word: Error, OOMKilled, Evicted, …
    message: str
    time: datetime
    last_words: LastWords | None = None  # the exception that it ended with, if it has told
    container_reason: str | None = None  # the container's, if `reason` is the pod's

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the process; None if none did."""
        code = self.exit_code or 0
        return code - SIGNAL_BASE if SIGNAL_BASE < code <= SIGNAL_BASE + 64 else None

    @property
    def is_pods(self) -> bool:
        """Whether the whole pod was stopped, for a reason of its own."""
        return self.container_reason is not None

    @property
    def reasons(self) -> frozenset[str]:
        """All reasons; that of the container beside that of the pod only if it is not Error."""
        own = self.container_reason
        return frozenset({self.reason} if own is None or own in _GENERIC else {self.reason, own})


def read_ending(status: View, trainer: View) -> Ending | None:
    """The ending of a pod; None if its training container has not ended.

    Args:
        status: the status of the pod.
        trainer: the status of its training container; empty if there is none yet.
    """
    ended: View = (trainer.get("state") or {}).get("terminated") or {}
    if ended:
        return _container_ending(status, ended)
    if status.get("phase") not in OVER:
        return None
    return Ending(  # evicted, or refused by its node, or an init container has failed
        exit_code=0 if status["phase"] == "Succeeded" else None,
        reason=status.get("reason") or names.Reason.CONTAINER_FAILED,
        message=status.get("message") or _failed_init(status),
        time=_last_change(status),
    )


def _container_ending(status: View, ended: View) -> Ending:
    message, at = ended.get("message") or "", ended.get("finishedAt")
    own = ended.get("reason") or names.Reason.CONTAINER_FAILED
    pods = status.get("reason") if status.get("phase") == "Failed" else None
    return Ending(
        exit_code=ended["exitCode"],
        reason=pods or own,
        message=(pods and status.get("message")) or last_part(message),
        time=parse_time(at) if at else _last_change(status),
        last_words=read_last_words(message),
        container_reason=own if pods else None,
    )


def _last_change(status: View) -> datetime:
    times = [entry.get("lastTransitionTime") for entry in status.get("conditions") or ()]
    known = [time for time in [*times, status.get("startTime")] if time]
    return max(map(parse_time, known), default=names.EPOCH)


def _failed_init(status: View) -> str:
    """The init container that failed, if that is why the training container never started."""
    for entry in status.get("initContainerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = f": {last_part(ended['message'])}" if ended.get("message") else ""
            return f"init container {entry['name']} exited with code {ended['exitCode']}{said}"
    return ""
