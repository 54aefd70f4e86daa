"""Finds the processes of pods: they run on this machine, but count their own process IDs."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.goodput import processes
from bench.goodput.cluster.faults import Disturbance, Target
from bench.goodput.ledger import Entry, Kind
from bench.goodput.processes import RANK


@dataclass(frozen=True, slots=True)
class Tenant:
    """A process in a pod.

    Attributes:
        pid: its process ID on this machine.
        inner: its process ID in the pod.
        env: the environment that it was started with.
    """

    pid: int
    inner: int
    env: Mapping[str, str]

    def may_be(self, rank: int) -> bool:
        """Whether its environment allows that it is a rank."""
        return self.env.get(RANK, str(rank)) == str(rank)


def of_run(run: str) -> list[Tenant]:
    """Return the processes of a run that have not ended, the oldest first."""
    found = processes.of_run(run)
    return [Tenant(pid, inner_pid(_status(pid)), found[pid]) for pid in sorted(found)]


def inner_pid(status: str) -> int:
    """Return the process ID in the innermost namespace.

    Args:
        status: the text of /proc/PID/status; empty if the process has ended.

    >>> inner_pid("NSpid: 4711 220 7")
    7
    >>> inner_pid("")
    0
    """
    lines = (line.split() for line in status.splitlines() if line.startswith("NSpid:"))
    return int(next(lines, ["0"])[-1])


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return ""


class Register:
    """Knows the process on this machine that has written an entry of the ledger."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}  # (rank, process ID in the pod) -> here
        self._unknown = itertools.count(-1, -1)

    def pid(self, entry: Entry, tenants: Sequence[Tenant]) -> int:
        """Return the process ID on this machine; a negative one if the process has ended.

        Args:
            entry: an entry of the ledger, with the process ID in the pod.
            tenants: the processes of the run, the oldest first.
        """
        key = (entry.rank, entry.pid)
        if entry.kind is Kind.BORN or key not in self._known:
            own = [one.pid for one in tenants if one.inner == entry.pid and one.may_be(entry.rank)]
            self._known[key] = own[-1] if own else next(self._unknown)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Victims:
    """The processes that a fault ends or stops.

    Attributes:
        target: the process that gets the signal.
        rank: the process of the rank in the same pod.
    """

    target: int
    rank: int


def victims(
    disturbance: Disturbance, tenants: Sequence[Tenant], ranks: Collection[int], variable: str
) -> Victims | None:
    """Return what a fault hits; None if it is not there now.

    Args:
        disturbance: the fault.
        tenants: the processes of the run, the oldest first.
        ranks: the process IDs that have written to the ledger.
        variable: the environment variable with the index of a pod.
    """
    own = [one for one in reversed(tenants) if one.env.get(variable) == str(disturbance.pod)]
    rank = next((one.pid for one in own if one.pid in ranks), None)
    first = next((one.pid for one in own if one.inner == 1), None)
    target = first if disturbance.target is Target.CONTAINER else rank
    return None if rank is None or target is None else Victims(target, rank)
