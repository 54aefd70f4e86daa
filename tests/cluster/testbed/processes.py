"""Start components so that none outlives the supervisor that started it, and watch them.

The kernel does the ending (`prctl(PR_SET_PDEATHSIG)`, through setpriv): it also happens when the
supervisor is killed by SIGKILL and no code of ours runs any more.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.testbed.places import Place

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
_POLL = 0.05  # seconds between two looks at a condition


class TestbedFailed(RuntimeError):
    """A test bed cannot be had: what was missing, and the end of the log that tells why."""

    __test__ = False


class TestbedUnavailable(TestbedFailed):
    """This machine lacks what a test bed needs; the message says what to install."""


def tail(log: Path, *, lines: int = 12) -> str:
    """The last lines of a log, or a word that there is none."""
    if not log.exists():
        return f"({log} was not written)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def run(
    *command: str | Path, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end.

    Args:
        command: the program and its arguments.
        stdin: what it reads; nothing by default.
        environment: variables beside those of this process.

    Returns:
        What it wrote to its standard output.

    Raises:
        TestbedFailed: it did not exit with 0; the message holds what it wrote to standard error.
    """
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments,
        input=stdin or "",
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedFailed(
            f"`{' '.join(arguments)}` exited with {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float) -> None:
    """Return as soon as a condition holds.

    Raises:
        TestbedFailed: it did not hold within `seconds`.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TestbedFailed(f"{what} must be there within {seconds:g} s, and is not")
        time.sleep(_POLL)


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, which may end at any time: then it has nothing to read."""

    pid: int

    def read(self, name: str) -> list[bytes]:
        """The parts of a file in its folder of /proc, such as `environ` and `cmdline`."""
        try:
            return Path("/proc", str(self.pid), name).read_bytes().split(b"\0")
        except OSError:
            return []

    @property
    def began(self) -> int:
        """When it was started, in clock ticks since the machine was."""
        (stat, *_) = self.read("stat") or [b""]
        facts = stat.rpartition(b")")[2].split()  # the name may have spaces and parentheses
        return int(facts[19]) if facts else sys.maxsize


def living() -> list[Process]:
    """The processes of this machine, the oldest first; numbers are used again."""
    found = [Process(int(path.name)) for path in Path("/proc").glob("[0-9]*")]
    return sorted(found, key=lambda one: one.began)


def process_with(**variables: str) -> int:
    """The process id, on this machine, of the program that has these environment variables.

    A probe of its container has them, too, and is younger.
    """
    sought = {f"{name}={value}".encode() for name, value in variables.items()}
    found = [one.pid for one in living() if sought <= set(one.read("environ"))]
    if not found:
        raise TestbedFailed(f"a process with {variables} must be there, and is not")
    return found[0]


class Components:
    """The running processes of one part of a test bed, in the order they were started."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, Sequence[str | Path]] = {}
        self._inits: dict[str, int] = {}  # the first process of a namespace, by its starter's name
        (place.folder / "log").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str | Path]) -> int:
        """Start a component under a name and return its process id; its log is named for it."""
        self._commands[name] = command
        with self.place.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*DIE_WITH_PARENT, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self._running[name].pid

    def start_init(self, name: str, command: Sequence[str | Path]) -> int:
        """Start a command whose child is the first process of a pid namespace.

        The child's end is the end of all processes in the namespace, so it is what `stop` ends.

        Returns:
            The child's process id.
        """
        starter = self.start(name, command)
        children = Path(f"/proc/{starter}/task/{starter}/children")
        self.wait_until(
            lambda: bool(children.read_text()), what=f"the child of {name}", seconds=120
        )
        self._inits[name] = int(children.read_text())
        return self._inits[name]

    def restart_asked_for(self) -> None:
        """Kill each component that a test wants restarted, and start it again as it was."""
        for name, command in tuple(self._commands.items()):
            if self.place.restart(name).exists():
                self._running[name].kill()
                self._running[name].wait()
                self.start(name, command)
                self.place.restart(name).unlink()

    def check(self) -> None:
        """Raise TestbedFailed if a component has ended: none may, before it is told to."""
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self.place.log(name)
                raise TestbedFailed(
                    f"{name} must keep running, but exited with {process.returncode}; "
                    f"the end of {log}:\n{tail(log)}"
                )

    def wait_until(self, condition: Callable[[], bool], *, what: str, seconds: float) -> None:
        """Return as soon as a condition holds; raise at once if a component ends before."""

        def holds() -> bool:
            self.check()
            return condition()

        wait_until(holds, what=f"{what} (logs: {self.place.folder / 'log'})", seconds=seconds)

    def stop(self) -> None:
        """Kill all components, the last started first: nothing that they have is kept."""
        for name, process in reversed(self._running.items()):
            if process.poll() is None:
                os.kill(self._inits.get(name, process.pid), signal.SIGKILL)
            process.wait()
        self._running.clear()
