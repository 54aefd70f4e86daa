"""The outer loop: starts the commands of a system, and starts again those that end with an error.

It stands for what a cluster does for every system alike: the restart policy of a pod. When a
command has ended, everything that it has started is killed, as at the end of a container.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from bench.goodput import processes
from bench.goodput.schedule import GRACE
from bench.goodput.systems.system import Command, Setup

PATIENCE = 60.0  # seconds until a service must listen
_HANG = "hang"  # the key of a verdict in a termination message


class Broken(RuntimeError):
    """A service does not start."""


class Unit:
    """A command that is started until it has ended well."""

    def __init__(self, command: Command, folder: Path, env: Mapping[str, str]) -> None:
        """Store the arguments.

        Args:
            command: the command.
            folder: the folder of its log.
            env: the environment of all commands of the run.
        """
        self.command = command
        self._log = folder / f"{command.name}.log"
        self._env = {**env, **command.env, processes.UNIT: command.name}
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: float | None = None  # when it was asked to end
        self.restarts = -1  # the first start is none
        self.is_done = False

    def start(self) -> None:
        """Start the command, without what another pod would not have."""
        for one in self.command.fresh:
            shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command.argv, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        self.restarts += 1
        self._asked = None

    def tick(self, now: float) -> None:
        """Start the command again if it has failed, and end it if it says that it hangs."""
        if self.is_done or self._process is None:
            return
        code = self._process.poll()
        if code is None:
            self._end_if_it_hangs(now)
            return
        processes.kill_all(self._env[processes.RUN], self.command.name)
        self.is_done = code == 0
        if not self.is_done:
            self.start()

    def _end_if_it_hangs(self, now: float) -> None:
        """Delete the pod of a training that hangs, with the grace period that each pod has."""
        assert self._process is not None  # noqa: S101  # for mypy
        if self._asked is None and _hangs(self.command.message):
            self._asked = now
            self._process.terminate()
        elif self._asked is not None and now > self._asked + GRACE:
            self._process.kill()

    def close(self) -> None:
        """End the command."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


def _hangs(message: Path | None) -> bool:
    """Whether a termination message has the verdict of a hang."""
    if message is None or not message.exists():
        return False
    with contextlib.suppress(ValueError):  # it is being written
        return _HANG in json.loads(message.read_text() or "{}")
    return False


class Outer:
    """The commands of a run; a context manager, which leaves no process behind."""

    def __init__(self, setup: Setup, folder: Path, env: Mapping[str, str]) -> None:
        """Store the arguments.

        Args:
            setup: the commands.
            folder: the folder of the logs.
            env: the environment of all commands, with a value for `processes.RUN`.
        """
        self._setup, self._run = setup, env[processes.RUN]
        self._services = [Unit(one, folder, env) for one in setup.services]
        self.units = [Unit(one, folder, env) for one in setup.units]

    def __enter__(self) -> Self:
        try:
            for service in self._services:
                service.start()
                _wait_for(service.command)
            for unit in self.units:
                unit.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for unit in (*self.units, *self._services):
            unit.close()
        processes.kill_all(self._run)
        for one in self._leftovers():
            shutil.rmtree(one, ignore_errors=True) if one.is_dir() else one.unlink()

    def _leftovers(self) -> Iterator[Path]:
        for pattern in self._setup.leftovers:
            yield from Path("/dev/shm").glob(pattern)  # noqa: S108  # where they are

    def tick(self, now: float) -> None:
        """Do what is due now."""
        for unit in self.units:
            unit.tick(now)

    @property
    def is_done(self) -> bool:
        """Whether all commands have ended well."""
        return all(unit.is_done for unit in self.units)

    @property
    def restarts(self) -> int:
        """How often a command was started again."""
        return sum(max(0, unit.restarts) for unit in self.units)


def _wait_for(command: Command) -> None:
    """Wait until a service listens."""
    end = time.monotonic() + PATIENCE
    while command.port is not None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", command.port), timeout=1).close()
            return
        if time.monotonic() > end:
            raise Broken(f"{command.name} must listen at port {command.port} in {PATIENCE} s")
        time.sleep(0.05)


def environment(run: str, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the commands of a run.

    Args:
        run: the name of the run.
        more: the variables of the task.
    """
    foreign = ("ACCELERATE", "PET_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC")
    kept = {name: one for name, one in os.environ.items() if not name.startswith(foreign)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile torch again
    root = Path(__file__).parents[2]
    fixed = {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "operator")]),
        "PYTHONUNBUFFERED": "1",
        processes.RUN: run,
    }
    return kept | fixed | dict(more)
