"""Receives the signals of the launcher in the order in which they come."""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from types import FrameType

_CHUNK_BYTES = 4096
_WAKE = 0  # the number of no signal


class Signals:
    """The signals that this process receives, instead of being ended by them.

    They are received for the rest of the life of this process. A signal that is ignored, as SIGHUP
    is under `nohup`, stays ignored. To be used in the main thread.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        """Begin to receive.

        Args:
            numbers: the signals. SIGCHLD is always one of them.
        """
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *numbers):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, _received)

    def wait(self, seconds: float | None) -> list[signal.Signals]:
        """Wait for signals, or for `wake`; return those since the last call, in order.

        Args:
            seconds: the longest time to wait; None for no limit. At the end of it the result is
                empty.
        """
        readable, _, _ = select.select([self._read], [], [], seconds)
        numbers = os.read(self._read, _CHUNK_BYTES) if readable else b""
        return [signal.Signals(number) for number in numbers if number != _WAKE]

    def wake(self) -> None:
        """End the current or the next call of `wait`. May be called by any thread."""
        with contextlib.suppress(BlockingIOError):  # enough is to be read already
            os.write(self._write, bytes([_WAKE]))


def _received(number: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter has written the number to the pipe."""
