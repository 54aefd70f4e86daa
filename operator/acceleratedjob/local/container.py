"""Runs the processes of a pod as a process group, and stops all of them at the end.

When the first process of a container ends, the kernel kills all others. Here, a process group
replaces the container. Processes that have left the group, as torchrun's workers do, are found by
an environment variable, on systems that have /proc (Linux).
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceleratedjob.local.output import Output, Show
from acceleratedjob.local.process import Command, end_with_parent

KILL_ROUNDS = 10  # a process may start another process before it is killed


@dataclass(slots=True, kw_only=True)
class Container:
    """A running container, created by `start`; `run` must be awaited.

    Attributes:
        process: the first process.
        output: what all of its processes write.
        mark: NAME=VALUE, a part of the environment that only processes of this container have.
        grace_seconds: the time between SIGTERM and SIGKILL, unless `stop` is called.
    """

    process: asyncio.subprocess.Process
    output: Output
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
        pipe = os.fdopen(read_end, "rb", buffering=0)
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
            pipe.close()
            raise
        finally:
            os.close(write_end)
        return cls(
            process=process,
            output=Output(pipe, show),
            mark=f"{mark}={command.env[mark]}".encode(),
            grace_seconds=grace_seconds,
        )

    async def run(self) -> int:
        """Wait until the first process has ended, kill the others, and return its exit code.

        All output is read before it returns. If it is cancelled, or if `show` fails, the container
        is stopped before the exception is raised.
        """
        exited = asyncio.create_task(self.process.wait())
        either: tuple[asyncio.Future[Any], ...] = (exited, self.output.failed)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._finish(exited)
        if self.output.failed.done():
            self.output.failed.result()
        return exited.result()

    def stop(self, seconds: float) -> None:
        """Send SIGTERM to the first process, and kill all processes after some seconds.

        Another call can only shorten the time.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.0, seconds)
        if self._kill_timer is None:
            self._ask_to_end()
        elif self._kill_timer.when() <= when:
            return
        else:
            self._kill_timer.cancel()
        self._kill_timer = loop.call_at(when, self.kill)

    def _ask_to_end(self) -> None:
        """Send SIGTERM to the first process.

        `Process.terminate` would first look whether it has ended, and if it just has, take its exit
        code away from asyncio, which then reports 255 (https://github.com/python/cpython/issues/87744).
        """
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self.process.pid, signal.SIGTERM)

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
            self.output.finish()
            if self.output.failed.done():
                self.output.failed.exception()  # else asyncio logs it as never retrieved

    async def _wait_as_a_container_would(self, exited: "asyncio.Task[int]") -> None:
        """If SIGTERM has ended the first process by default action, let the others go on.

        The first process of a real container has no default action: without a handler, it outlives
        SIGTERM. A shell, for example, then waits for the program that it has started, which is not
        told to stop, and the kernel kills both when the grace period ends.
        """
        if self._kill_timer is None or exited.result() != -signal.SIGTERM:
            return
        seconds = self._kill_timer.when() - asyncio.get_running_loop().time()
        await asyncio.wait({self.output.closed}, timeout=max(0.0, seconds))

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


def marked(mark: bytes) -> list[int]:
    """Return the ids of processes with NAME=VALUE in their environment; none without /proc."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found
