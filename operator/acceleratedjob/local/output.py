"""Reads what the processes of a container write to their pipe, until all of them have closed it."""

import asyncio
import os
from collections.abc import Callable, Sequence
from io import FileIO

from acceleratedjob.lines import Line, LineCutter

CHUNK_BYTES = 2**16
MAX_LEFT_BYTES = 2**20  # no pipe of a user holds more, unless the machine was told otherwise

Show = Callable[[Sequence[Line]], None]


class Output:
    """The read end of the pipe.

    A process whose output is not read would block. A process whose pipe is closed would end while
    it saves a checkpoint. So it is read even if lines can no longer be shown.

    Attributes:
        closed: a future that is done when all processes have closed the pipe.
        failed: a future that gets the exception of `show`, if `show` raises one.
    """

    def __init__(self, pipe: FileIO, show: Show) -> None:
        """Read in the running event loop from now on.

        Args:
            pipe: the read end, which is closed at the end.
            show: called with lines, the beginning of the last one included.
        """
        self._loop = asyncio.get_running_loop()
        self._pipe, self._show = pipe, show
        self._cutter = LineCutter()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe, self._read)

    def finish(self) -> None:
        """Read what is in the pipe now, and close it, even if a process still has its other end."""
        for _ in range(MAX_LEFT_BYTES // CHUNK_BYTES):
            if self._pipe.closed or not self._read():
                break
        self._close()

    def _read(self) -> bool:
        """Show what is in the pipe, up to a limit; return whether there was anything."""
        data = self._pipe.read(CHUNK_BYTES)
        if data == b"":
            self.closed.set_result(None)
            self._close()
        elif data is not None:
            finished, begun = [*self._cutter.feed(data)], self._cutter.beginning
            self._pass_on([*finished, begun] if begun else finished)
        return bool(data)

    def _close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe)
            self._pipe.close()
            self._pass_on([*self._cutter.end()])

    def _pass_on(self, lines: Sequence[Line]) -> None:
        if self.failed.done() or not lines:
            return
        try:
            self._show(lines)
        except Exception as error:  # noqa: BLE001  # the container raises it
            self.failed.set_exception(error)
