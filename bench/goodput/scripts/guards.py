"""What tells the system around Accelerate that a rank still makes steps."""

import contextlib
import os
import time
from pathlib import Path

from torch.distributed.elastic.timer.file_based_local_timer import FileTimerClient

from bench.goodput.workloads import STEP_LIMIT

FT = "GOODPUT_FT"  # the variable that says that NVIDIA's ft_launcher runs the script
_TIMER_FILE = "TORCHELASTIC_TIMER_FILE"  # set by torchrun
_SCOPE = "step"
_RENEWED = 0.5  # seconds after which the timer is set again; in each step it would slow all down


class Guard:
    """What hears of the steps of this rank; this one tells nobody."""

    def begin(self) -> None:
        """Note that a step begins."""

    def end(self) -> None:
        """Note that a step has ended."""

    def rest(self) -> None:
        """Note that something else follows, such as a save, which has no limit."""


class Timer(FileTimerClient):
    """A timer that is left out when torchrun has ended its server.

    torchrun does so before it asks the ranks to stop, and the client then raises an error: without
    this, a script would never save when its pod is asked to stop.
    """

    def __init__(self, path: str) -> None:
        """Args: path: the named pipe of the server."""
        super().__init__(path)
        self._pipe = Path(path)

    def acquire(self, scope_id: str, expiration_time: float) -> None:
        """Begin to count."""
        if self._pipe.exists():
            with contextlib.suppress(BrokenPipeError):  # it has just ended
                super().acquire(scope_id, expiration_time)

    def release(self, scope_id: str) -> None:
        """End to count."""
        if self._pipe.exists():
            with contextlib.suppress(BrokenPipeError):  # as above
                super().release(scope_id)


def guard() -> Guard:
    """Return what the system around this rank wants to be told."""
    if FT in os.environ:
        return _Heartbeats()
    if _TIMER_FILE in os.environ:
        return _Timed(Timer(os.environ[_TIMER_FILE]))
    return Guard()


class _Heartbeats(Guard):
    """Tells ft_launcher's monitor of each step."""

    def __init__(self) -> None:
        from nvidia_resiliency_ext import fault_tolerance  # noqa: PLC0415  # only there

        self._client = fault_tolerance.RankMonitorClient()
        self._client.init_workload_monitoring()

    def end(self) -> None:
        """Send a heartbeat."""
        self._client.send_heartbeat()


class _Timed(Guard):
    """Sets torchrun's timer, which ends this rank if it is not set again in time."""

    def __init__(self, client: Timer) -> None:
        self._client, self._set_at = client, 0.0

    def begin(self) -> None:
        """Set the timer, unless it was set just before."""
        if time.monotonic() - self._set_at > _RENEWED:
            self._set_at = time.monotonic()
            self._client.acquire(_SCOPE, time.time() + STEP_LIMIT + _RENEWED)

    def rest(self) -> None:
        """Take the timer back."""
        if self._set_at:
            self._set_at = 0.0
            self._client.release(_SCOPE)
