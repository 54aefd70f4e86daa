"""Starts the training processes of a life, from the reserve where there is one."""

import contextlib
import math
import socket
import time
from collections.abc import Mapping

from runtime.config.settings import LoopSettings
from runtime.launch import plan, processes
from runtime.launch.reserve import Reserve
from runtime.launch.say import say
from runtime.world import contract

RESERVE_SECONDS = 10.0  # after a start, when the imports of the training processes are over
AGAIN_SECONDS = 1.0  # the same if they come from the reserve, which has imported torch
_OMP_WARNING = (  # torchrun's
    "*****************************************\n"
    "Setting OMP_NUM_THREADS environment variable for each process to be 1 in default, to avoid "
    "your system being overloaded, please further tune the variable for optimal performance in "
    "your application as needed.\n"
    "*****************************************"
)

Start = tuple[list[str], dict[str, str]]  # the program with its arguments, the environment


class CannotStart(Exception):
    """The program of the processes cannot be started."""


class Starter:
    """Starts the training processes of a pod, life after life.

    Attributes:
        fill_at: when to call `fill`, by a monotonic clock; infinite for never.
    """

    def __init__(self, pod: plan.Pod, settings: LoopSettings) -> None:
        """Store the arguments.

        Args:
            pod: the processes to start.
            settings: how many lives may follow the first one, and whether there is a reserve.
        """
        self._pod = pod
        self._lives = settings.in_place_restarts or 0
        self._has_reserve = settings.standby is not False
        self._reserve = Reserve()
        self._next: list[Start] = []
        self.fill_at = math.inf

    @property
    def waiting(self) -> frozenset[int]:
        """The process IDs of the processes in reserve."""
        return self._reserve.pids

    def start(self, number: int, more: Mapping[str, str], *, life: int) -> dict[int, str]:
        """Start the processes of a life; return their ranks by their process IDs.

        Args:
            number: the number of processes.
            more: further environment variables.
            life: the life, from 0.

        Raises:
            CannotStart: the program cannot be started.
        """
        if life == 0 and number > 1 and plan.THREADS not in self._pod.env:
            say(_OMP_WARNING)
        self._next = starts = self._starts(number, more)
        is_warm = len(self._reserve.pids) == number
        started = {self._start(index, starts): starts[index][1] for index in range(number)}
        wait = AGAIN_SECONDS if is_warm else RESERVE_SECONDS
        is_last = life >= self._lives
        self.fill_at = time.monotonic() + wait if self._has_reserve and not is_last else math.inf
        return {pid: env[contract.RANK] for pid, env in started.items()}

    def _starts(self, number: int, more: Mapping[str, str]) -> list[Start]:
        """Return the program with its arguments, and the environment, of each process."""
        port = self._pod.master_port or _free_port()
        return [
            (plan.arguments(self._pod, rank) if number > 1 else self._pod.argv, {**env, **more})
            for rank, env in enumerate(plan.environments(self._pod, processes=number, port=port))
        ]

    def _start(self, index: int, starts: list[Start]) -> int:
        """Return the process ID of a training process: one in reserve, or a new one."""
        argv, env = starts[index]
        pid = self._reserve.take(index, env)
        if pid is not None:
            return pid
        try:
            return processes.start(argv, env, reads_stdin=len(starts) == 1)
        except OSError as error:
            sentence = f"{argv[0]!r} cannot be started: {error.strerror}"
            raise CannotStart(sentence) from error

    def fill(self, now: float) -> None:
        """Start the processes in reserve for the next life, if it is time."""
        if now >= self.fill_at:
            self.fill_at = math.inf
            with contextlib.suppress(OSError):  # without one, the next life begins more slowly
                self._reserve.fill(self._next)

    def lose(self, pid: int) -> None:
        """Note that a process has ended."""
        self._reserve.lose(pid)

    def close(self) -> None:
        """Kill the processes in reserve."""
        self.fill_at = math.inf
        self._reserve.close()


def _free_port() -> int:
    """Return a port that the kernel gives to nobody else for a minute.

    It has had a connection, whose end waits in TIME_WAIT; a server may listen there nevertheless.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()  # the end that closes first is the one that waits
    return port
