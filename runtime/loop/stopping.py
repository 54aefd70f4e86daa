"""Leaving the training when the job is asked to stop."""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from runtime.launch.deadlines import seconds_to_leave
from runtime.loop.control import Control
from runtime.loop.say import say
from runtime.loop.signals import Signals
from runtime.world.last_words import write_leaving, write_stopped

EXIT_CODE = 143  # 128 + SIGTERM: what is expected of a process that ends on SIGTERM
_LEAVING = 5.0  # seconds that the script has to end by itself, if the grace is not over before
_left: list[Signals] = []  # of this process, if it has stopped


class Stopped(SystemExit):
    """Raised by the next batch or epoch when the job was asked to stop; ends the script.

    It is a SystemExit, so that `finally` blocks run, no traceback is printed, and the exit code is
    143. Code that catches it only delays the end: each later boundary raises it again.
    """

    def __init__(self) -> None:
        """Set the exit code."""
        super().__init__(EXIT_CODE)


class Shutdown:
    """The graceful shutdown of this process, from the first signal to its exit.

    Attributes:
        control: what connects this process to the others.
    """

    def __init__(
        self, control: Control, safe_step: Callable[[], int | None], *, grace_seconds: float
    ) -> None:
        """Begin without listening for signals.

        Args:
            control: what connects this process to the others.
            safe_step: returns the step from which the job can go on; None if there is none.
            grace_seconds: the time between a signal to stop and the kill of this process.
        """
        self.control, self._safe_step = control, safe_step
        self._grace_seconds = grace_seconds
        self._main = threading.main_thread().ident
        self._signals: Signals | None = None
        self._last_moment = LastMoment(safe_step)

    def listen(self) -> None:
        """Listen for signals from now on, if this is the main thread: no other one can."""
        if self._signals is None and threading.get_ident() == self._main:
            self._signals = Signals(self._notice, self._grace_seconds)

    def check(self) -> None:
        """Take SIGTERM again if the script has taken it; its handler is called when all is saved.

        The script may have set a handler, or used an event loop with one, since `listen`.
        """
        if self._signals is not None and threading.get_ident() == self._main:
            self._signals.check()

    def _notice(self, deadline: float, why: str) -> None:
        self._last_moment.notice(self._grace_seconds)
        self.control.notice(deadline, why)

    def begin(self) -> None:
        """Note that all ranks have agreed to stop: the main thread ends this process."""
        self._last_moment.cancel()

    def leave_by_script(self) -> None:
        """Note that the script was told to stop, and ends by itself."""
        write_leaving(os.environ)

    def leave(self, step: int) -> NoReturn:
        """End the script.

        Args:
            step: the number of completed optimizer steps.

        Raises:
            Stopped: always.
        """
        safe_step = self._safe_step()
        say(f"stopped at step {step}; the job can go on from step {safe_step}")
        if safe_step is not None:
            write_stopped(os.environ, safe_step)
        leave_soon(self.control.seconds_left())
        if self._signals is not None:
            _left.append(self._signals)
            with contextlib.suppress(SystemExit):  # its exit code may say that the job has ended
                self._signals.call_handler_before()
        raise Stopped


class LastMoment:
    """Ends this process just before its grace period does, if the job has not begun to stop.

    An evaluation may be longer than the grace period, and there is no place to stop in it. The exit
    code and the termination message then say that the process was asked to stop, which they cannot
    if it is killed.
    """

    def __init__(self, safe_step: Callable[[], int | None]) -> None:
        """Begin without a notice.

        Args:
            safe_step: returns the step from which the job can go on; None if there is none.
        """
        self._safe_step = safe_step
        self._timer: threading.Timer | None = None

    def notice(self, grace_seconds: float) -> None:
        """Begin to count, at the first notice.

        Args:
            grace_seconds: the time until this process is killed.
        """
        if self._timer is None:
            self._timer = threading.Timer(seconds_to_leave(grace_seconds), self._leave)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Leave it to the main thread to end this process, which has begun to stop."""
        if self._timer is not None:
            self._timer.cancel()

    def _leave(self) -> None:
        step = self._safe_step()
        say(
            "the grace period is over, and this process has reached no place to stop: the job can "
            f"go on from step {step}"
        )
        if step is not None:
            write_stopped(os.environ, step)
        os._exit(EXIT_CODE)


def leave_soon(seconds: float) -> None:
    """End this process in a bounded time, even if other threads keep the interpreter alive.

    Args:
        seconds: the rest of the grace period.
    """
    limit = max(0.0, min(seconds, _LEAVING))
    threading.Thread(target=_end, args=(limit,), name="leave", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(EXIT_CODE)


@atexit.register  # when this is imported, so that it is called behind what a script registers
def _let_go() -> None:
    """Let SIGTERM end this process if it has stopped.

    Python takes more than a second of CPU time to leave a process with torch. The launcher sends
    SIGTERM again before SIGKILL, so that the exit code is 143 then, too.
    """
    for signals in _left:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # it is closed, or None
                stream.flush()
        signals.let_go()
