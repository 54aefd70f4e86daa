"""The processes of a training, found by what is in their environment."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.goodput.outages import Exit
from runtime.world.reserve import NAME

RUN = "GOODPUT_RUN"  # the variable whose value no other run of the benchmark has
UNIT = "GOODPUT_UNIT"  # the variable with the name of the restarted command
RANK = "RANK"


def of_run(run: str, unit: str | None = None) -> dict[int, Mapping[str, str]]:
    """Return the environment, by process ID, of all processes of a run that have not ended.

    Args:
        run: the value of the variable `RUN`.
        unit: the value of the variable `UNIT`; None for all.
    """
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (env := _environment(folder)).get(RUN) == run:
            found[int(folder.name)] = env
    return {pid: env for pid, env in found.items() if unit is None or env.get(UNIT) == unit}


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it has ended."""
    try:
        text = (folder / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.split("\0") if line)
    return {name: value for name, _, value in pairs}


def of_rank(run: str, rank: int, told: Mapping[int, int], *, variable: str = RANK) -> int | None:
    """Return the process ID of a rank; None if there is none now.

    Args:
        run: the value of the variable `RUN`.
        rank: the rank.
        told: the rank of each process that has written to the ledger, the latest at the end. It
            may differ from that in the environment.
        variable: the environment variable with the rank of a process that has written nothing.
    """
    found = of_run(run)
    known = [pid for pid, its in told.items() if pid in found and its == rank]
    if known:
        return known[-1]
    starting = {
        pid
        for pid, env in found.items()
        if RANK in env and env.get(variable) == str(rank) and pid not in told
        if _name(pid) != NAME  # it is in reserve, and no rank yet
    }
    first = [pid for pid in starting if _parent(pid) not in starting]  # not its own children
    return max(first, default=None)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def send(run: str, pids: Iterable[int], number: int) -> None:
    """Send a signal to those of some processes that belong to a run and have not ended."""
    for pid in pids:
        if _environment(Path(f"/proc/{pid}")).get(RUN) == run:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def kill_all(run: str, unit: str | None = None) -> int:
    """Kill all processes of a run, or of one of its units; return how many there were."""
    count = 0
    while left := of_run(run, unit):
        count += len(left)
        send(run, left, signal.SIGKILL)
        time.sleep(0.01)  # until they are gone
    return count


class Ends:
    """Notes when processes end."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}  # file descriptor -> process ID
        self._seen: set[int] = set()
        self._poll = select.poll()

    def watch(self, pid: int) -> None:
        """Note the end of a process from now on; the first call for a process counts."""
        if pid in self._seen:
            return
        self._seen.add(pid)
        with contextlib.suppress(ProcessLookupError):
            file = os.pidfd_open(pid)
            self._files[file] = pid
            self._poll.register(file, select.POLLIN)

    def wait(self, seconds: float) -> list[Exit]:
        """Wait until a process ends, but no longer than some seconds; return those that have."""
        found = []
        for file, _ in self._poll.poll(1000 * seconds):
            found.append(Exit(time.monotonic(), self._files.pop(file)))
            self._poll.unregister(file)
            os.close(file)
        return found

    def close(self) -> None:
        """Forget all processes."""
        for file in self._files:
            os.close(file)
        self._files.clear()
