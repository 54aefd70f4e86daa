"""The launcher's processes in reserve: one for each training process of this pod."""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from runtime.launch import processes

_MODULE = "runtime.launch.standby"


class Standby:
    """A process in reserve.

    Attributes:
        pid: its process ID.
    """

    def __init__(
        self, program: Sequence[str], env: Mapping[str, str], *, reads_stdin: bool
    ) -> None:
        """Start it.

        Args:
            program: the arguments of the interpreter: a script or `-m` and a module, and more.
            env: the environment variables of the training process.
            reads_stdin: whether it reads from the standard input of the launcher.

        Raises:
            OSError: it cannot be started.
        """
        self._env = dict(env)
        theirs, self._ours = os.pipe()
        try:
            os.set_inheritable(theirs, True)
            argv = [sys.executable, "-m", _MODULE, str(theirs), *program]
            self.pid = processes.start(argv, env, reads_stdin=reads_stdin)
        finally:
            os.close(theirs)

    def go(self, env: Mapping[str, str]) -> None:
        """Let it become a training process, now or when it has imported torch.

        Args:
            env: the environment variables of the training process; all that it was started with
                are among them.

        Raises:
            OSError: it has ended.
        """
        changed = {name: value for name, value in env.items() if self._env.get(name) != value}
        with os.fdopen(self._ours, "wb") as file:
            file.write(json.dumps(changed).encode())

    def end(self) -> None:
        """Kill it."""
        os.close(self._ours)
        processes.send([self.pid], signal.SIGKILL)

    def forget(self) -> None:
        """Release what is left of one that has ended."""
        os.close(self._ours)


class Reserve:
    """The processes in reserve of one pod, by the index of the training process."""

    def __init__(self) -> None:
        """Begin without any."""
        self._waiting: dict[int, Standby] = {}

    @property
    def pids(self) -> frozenset[int]:
        """The process IDs of those that wait."""
        return frozenset(one.pid for one in self._waiting.values())

    def fill(self, starts: Sequence[tuple[Sequence[str], Mapping[str, str]]]) -> None:
        """Start those that are missing, where the program is a Python script or module.

        Args:
            starts: the program with its arguments, and the environment, of each training process.
        """
        for index, (argv, env) in enumerate(starts):
            if index not in self._waiting and _can_run(argv):
                only = len(starts) == 1
                self._waiting[index] = Standby(argv[1:], env, reads_stdin=only)

    def take(self, index: int, env: Mapping[str, str]) -> int | None:
        """Return the process ID of one that becomes a training process; None if there is none.

        Args:
            index: the index of the training process.
            env: its environment variables.
        """
        one = self._waiting.pop(index, None)
        if one is None:
            return None
        try:
            one.go(env)
        except OSError:
            return None
        return one.pid

    def lose(self, pid: int) -> None:
        """Note that a process has ended."""
        for index, one in list(self._waiting.items()):
            if one.pid == pid:
                one.forget()
                del self._waiting[index]

    def close(self) -> None:
        """Kill all."""
        for one in self._waiting.values():
            one.end()
        self._waiting = {}


def _can_run(argv: Sequence[str]) -> bool:
    interpreter, *program = argv
    is_script = bool(program) and program[0].endswith(".py")
    return interpreter == sys.executable and (is_script or program[:1] == ["-m"])
