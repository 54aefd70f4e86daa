"""The processes of a pod: a process group that is read until the end, and stopped completely.

When the first process of a container ends, the kernel kills all others. Here, a process group takes
the place of the container. Processes that have left the group, as torchrun's workers do, are found
by a variable of their environment, where the system shows it (Linux).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from acceleratedjob.local.lines import Line, LineCutter
from acceleratedjob.local.process import Command, end_with_parent

CHUNK_BYTES = 2**16
DRAIN_SECONDS = 2  # to read what is left in the pipe when all processes are dead
KILL_ROUNDS = 10  # a process may start another one while it is being killed

Show = Callable[[Line], None]


@dataclass(slots=True, kw_only=True)
class Container:
    """A running container; created by `start`, and `run` must be awaited."""

    process: asyncio.subprocess.Process
    reading: "asyncio.Task[None]"
    failed: "asyncio.Future[None]"  # ends with the error of `show`, if it has one
    mark: bytes  # of the environment, NAME=VALUE: no other container's processes have it
    grace_seconds: float  # between SIGTERM and SIGKILL, unless `stop` says otherwise
    _kill_timer: asyncio.TimerHandle | None = field(default=None, init=False)

    @classmethod
    async def start(
        cls, command: Command, *, mark: str, grace_seconds: float, show: Show
    ) -> "Container":
        """Start a container's command.

        Args:
            command: what to start.
            mark: the variable of `command.env` whose value no other container has.
            grace_seconds: between SIGTERM and SIGKILL.
            show: is called with each line of output.

        Raises:
            OSError: it cannot be started.
            ValueError: it has a null byte.
        """
        read_end, write_end = os.pipe()
        output = os.fdopen(read_end, "rb", buffering=0)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env=command.env,
                cwd=command.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,  # this program starts no threads
            )
        except BaseException:
            output.close()
            raise
        finally:
            os.close(write_end)
        failed = asyncio.get_running_loop().create_future()
        return cls(
            process=process,
            reading=asyncio.create_task(_read(output, show, failed)),
            failed=failed,
            mark=f"{mark}={command.env[mark]}".encode(),
            grace_seconds=grace_seconds,
        )

    async def run(self) -> int:
        """Wait until the first process has ended, kill the others, and return its exit code.

        All output has been read by then. If it is cancelled, or if `show` fails, the container is
        stopped before the exception is raised.
        """
        exited = asyncio.create_task(self.process.wait())
        either: tuple[asyncio.Future[Any], ...] = (exited, self.failed)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._finish(exited)
        if self.failed.done():
            self.failed.result()
        return exited.result()

    def stop(self, seconds: float) -> None:
        """Send SIGTERM to the first process, and kill all processes after a number of seconds.

        Another call can only shorten the time.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        if self._kill_timer is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended this moment
                self.process.terminate()
        elif self._kill_timer.when() <= when:
            return
        else:
            self._kill_timer.cancel()
        self._kill_timer = loop.call_at(when, self.kill)

    def kill(self) -> None:
        """Kill all processes immediately."""
        for _ in range(KILL_ROUNDS):
            if not self._signal_all(signal.SIGKILL):
                return

    async def _finish(self, exited: "asyncio.Task[int]") -> None:
        try:
            if not exited.done():
                self.stop(self.grace_seconds)
                await asyncio.wait({exited})
            await self._give_time_to_the_rest()
        finally:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            self.kill()
            await asyncio.wait({self.reading}, timeout=DRAIN_SECONDS)
            self.reading.cancel()
            if self.failed.done():
                self.failed.exception()  # asyncio logs one that nobody has asked for

    async def _give_time_to_the_rest(self) -> None:
        """In a container that is stopped, what a shell has started may save its work, too.

        A shell that is a container's first process ignores SIGTERM, and would wait for it.
        """
        if self._kill_timer is None or self.reading.done():
            return
        self._signal_all(signal.SIGTERM)
        seconds = self._kill_timer.when() - asyncio.get_running_loop().time()
        await asyncio.wait({self.reading}, timeout=max(0.0, seconds))

    def _signal_all(self, number: signal.Signals) -> bool:
        """Signal the group, and the processes that left it; False if there are none of those."""
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(self.process.pid, number)
        found = [pid for pid in marked(self.mark) if _group(pid) != self.process.pid]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(found)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


async def _read(output: FileIO, show: Show, failed: "asyncio.Future[None]") -> None:
    """Read until no process has the pipe open; also if lines cannot be shown any more.

    A process whose output is not read would block, and one whose pipe is closed would end in the
    middle of what it does to save its work.
    """
    reader, cutter = asyncio.StreamReader(), LineCutter()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), output
    )
    try:
        while data := await reader.read(CHUNK_BYTES):
            _show(cutter.feed(data), show, failed)
        _show(cutter.end(), show, failed)
    finally:
        transport.close()


def _show(lines: Iterable[Line], show: Show, failed: "asyncio.Future[None]") -> None:
    for line in lines:
        if failed.done():
            continue
        try:
            show(line)
        except Exception as error:  # noqa: BLE001  # whatever it is, `run` raises it
            failed.set_exception(error)


def marked(mark: bytes) -> list[int]:
    """The processes that were started with a variable, NAME=VALUE; none if there is no /proc."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found
