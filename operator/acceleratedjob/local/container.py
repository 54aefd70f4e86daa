"""Runs the processes of a pod as a process group, and stops all of them at the end.

When the first process of a container ends, the kernel kills all others. Here, a process group
replaces the container. Processes that have left the group, as torchrun's workers do, are found by
an environment variable, on systems that have /proc (Linux).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from acceleratedjob.lines import Line, LineCutter
from acceleratedjob.local.process import Command, end_with_parent

CHUNK_BYTES = 2**16
DRAIN_SECONDS = 2  # the limit for reading the rest of the pipe after all processes have ended
KILL_ROUNDS = 10  # a process may start another process before it is killed

Show = Callable[[Sequence[Line]], None]


@dataclass(slots=True, kw_only=True)
class Container:
    """A running container, created by `start`; `run` must be awaited.

    Attributes:
        process: the first process.
        reading: the task that reads the output.
        failed: a future that gets the exception of `show`, if `show` raises one.
        mark: NAME=VALUE, a part of the environment that only processes of this container have.
        grace_seconds: the time between SIGTERM and SIGKILL, unless `stop` is called.
    """

    process: asyncio.subprocess.Process
    reading: "asyncio.Task[None]"
    failed: "asyncio.Future[None]"
    mark: bytes
    grace_seconds: float
    _kill_timer: asyncio.TimerHandle | None = field(default=None, init=False)

    @classmethod
    async def start(
        cls,
        command: Command,
        *,
        mark: str,
        grace_seconds: float,
        show: Show,
        reads_stdin: bool = False,
    ) -> "Container":
        """Start the command of a container.

        Args:
            command: the command.
            mark: the name of a variable of `command.env` whose value no other container has.
            grace_seconds: the time between SIGTERM and SIGKILL.
            show: called with the lines of output, the beginning of the last one included.
            reads_stdin: whether it reads from the standard input of this program.

        Raises:
            OSError: the command cannot be started.
            ValueError: the command contains a null byte.
        """
        read_end, write_end = os.pipe()
        output = os.fdopen(read_end, "rb", buffering=0)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env=command.env,
                cwd=command.cwd,
                stdin=None if reads_stdin else asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,  # safe, because this program starts no threads
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

        All output is read before it returns. If it is cancelled, or if `show` fails, the container
        is stopped before the exception is raised.
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
        """Send SIGTERM to the first process, and kill all processes after some seconds.

        Another call can only shorten the time.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        if self._kill_timer is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
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
            await self._wait_as_a_container_would(exited)
        finally:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            self.kill()
            await asyncio.wait({self.reading}, timeout=DRAIN_SECONDS)
            self.reading.cancel()
            if self.failed.done():
                self.failed.exception()  # else asyncio logs it as never retrieved

    async def _wait_as_a_container_would(self, exited: "asyncio.Task[int]") -> None:
        """If SIGTERM has ended the first process by default action, let the others go on.

        The first process of a real container has no default action: without a handler, it outlives
        SIGTERM. A shell, for example, then waits for the program that it has started, which is not
        told to stop, and the kernel kills both when the grace period ends.
        """
        if self._kill_timer is None or exited.result() != -signal.SIGTERM or self.reading.done():
            return
        seconds = self._kill_timer.when() - asyncio.get_running_loop().time()
        await asyncio.wait({self.reading}, timeout=max(0.0, seconds))

    def _signal_all(self, number: signal.Signals) -> bool:
        """Signal the group and the processes that have left it; return whether any have left it."""
        with contextlib.suppress(ProcessLookupError):  # all processes of the group have ended
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
    """Read until all processes have closed the pipe, even if lines can no longer be shown.

    A process whose output is not read would block. A process whose pipe is closed would end while
    it saves a checkpoint.
    """
    reader, cutter = asyncio.StreamReader(), LineCutter()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), output
    )
    try:
        while data := await reader.read(CHUNK_BYTES):
            finished, begun = [*cutter.feed(data)], cutter.beginning
            _show([*finished, begun] if begun else finished, show, failed)
        _show([*cutter.end()], show, failed)
    finally:
        transport.close()


def _show(lines: Sequence[Line], show: Show, failed: "asyncio.Future[None]") -> None:
    if failed.done() or not lines:
        return
    try:
        show(lines)
    except Exception as error:  # noqa: BLE001  # `run` raises it
        failed.set_exception(error)


def marked(mark: bytes) -> list[int]:
    """Return the ids of processes with NAME=VALUE in their environment; none without /proc."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found
