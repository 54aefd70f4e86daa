"""Operators as forks of a process that has imported their libraries.

To import them takes a hundred operators two minutes. All else is as in a program of its own: its
arguments, its environment, its output, its signals.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from subprocess import TimeoutExpired

LIBRARIES = ("kopf", "kubernetes.aio.client", "kubernetes.config")  # none of this project's modules


@dataclass(frozen=True, slots=True)
class Program:
    """A process that was started; what it has is named as in `subprocess.Popen`."""

    process: ForkServerProcess

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            TimeoutExpired: it has not.
        """
        self.process.join(timeout)
        code = self.poll()
        if code is None:
            assert timeout is not None
            raise TimeoutExpired(self.process.name, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def start(module: str, arguments: tuple[str, ...], env: Mapping[str, str], log: Path) -> Program:
    """Start `python -m module`, whose output is added to a log."""
    process = _context().Process(target=_run, args=(module, arguments, dict(env), log), daemon=True)
    process.start()
    return Program(process)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    return context


def _run(module: str, arguments: tuple[str, ...], env: dict[str, str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
