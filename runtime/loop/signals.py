"""Notices SIGTERM at once, also while the main thread waits in a collective.

Python calls the handler of a signal when the main thread returns from C code, which may take
minutes. The wakeup file descriptor is written at once, by the C handler, and a thread reads it.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

from runtime.control.forks import call_in_children


class Signals:
    """Turns each SIGTERM into a notice. Created, checked and closed by the main thread."""

    def __init__(self, notice: Callable[[float, str], None], grace_seconds: float) -> None:
        """Install the handler, and start the thread.

        Args:
            notice: called by the thread for each signal, with the monotonic time at which this
                process is killed, and the cause.
            grace_seconds: the time between the signal and the kill of this process.
        """
        self._notice = notice
        self._grace_seconds = grace_seconds
        self._reads, self._writes = socket.socketpair()
        self._writes.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        self._handler_before = signal.signal(signal.SIGTERM, self._handle)
        # A forked child must end on SIGTERM, and must not write to the parent's socket.
        call_in_children(self._release, holds=(signal.SIGTERM,))
        self._thread = threading.Thread(target=self._read, name="signals", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Take the signal again if other code, such as asyncio.run, has taken it meanwhile."""
        if self._writes.fileno() < 0:
            return  # in a forked child
        before = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        if before != self._writes.fileno():
            self._fd_before = before
        if signal.getsignal(signal.SIGTERM) != self._handle:
            self._handler_before = signal.signal(signal.SIGTERM, self._handle)

    def call_handler_before(self) -> None:
        """Call the handler that the script has installed, if there is one."""
        if callable(self._handler_before):
            self._handler_before(signal.SIGTERM, None)

    def let_go(self) -> None:
        """Let the signal end this process from now on."""
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def close(self) -> None:
        """Restore what was before, and end the thread."""
        self._restore()
        self._writes.close()
        self._thread.join()
        self._reads.close()

    def _restore(self) -> None:
        if signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, self._handler_before or signal.SIG_DFL)
            signal.set_wakeup_fd(self._fd_before)

    def _release(self) -> None:
        self._handler_before, self._fd_before = signal.SIG_DFL, -1
        self._restore()
        self._reads.close()
        self._writes.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Do nothing: the thread reads the signal from the socket."""

    def _read(self) -> None:
        while data := self._reads.recv(64):
            if self._fd_before >= 0:
                with contextlib.suppress(OSError):  # its reader is gone
                    os.write(self._fd_before, data)
            if signal.SIGTERM in data:
                self._notice(time.monotonic() + self._grace_seconds, "SIGTERM")
