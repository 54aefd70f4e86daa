"""Decides the exit code of a pod, and what is said of its first failure."""

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIGNAL_BASE = 128  # shells and container runtimes report signal n as the exit code 128 + n
STOPPED = SIGNAL_BASE + signal.SIGTERM  # of a process that ended because it was asked to stop

_HINTS = {  # what usually sends a signal
    "SIGKILL": "the kernel does this if memory runs out",
    "SIGBUS": "often /dev/shm or another file system in memory is full",
    "SIGSEGV": "native code has accessed invalid memory",
    "SIGABRT": "native code has ended the process; the log may say why",
    "SIGILL": "native code was compiled for another processor",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training process ended.

    Attributes:
        rank: the rank of the process, as its RANK says.
        pid: the process ID.
        status: the exit code, or minus the number of the signal that terminated the process.
    """

    rank: str
    pid: int
    status: int

    @property
    def code(self) -> int:
        """The exit code as a shell has it, >= 0."""
        return self.status if self.status >= 0 else SIGNAL_BASE - self.status

    @property
    def is_failure(self) -> bool:
        """Whether it ended neither well nor because it was asked to stop."""
        return self.code not in (0, STOPPED)

    @property
    def signal(self) -> str | None:
        """The name of the signal that terminated the process; None if none did."""
        return name_of(-self.status) if self.status < 0 else None

    @property
    def sentence(self) -> str:
        """What happened, for the log."""
        how = f"was killed by {self.signal}" if self.signal else f"exited with code {self.code}"
        return f"rank {self.rank} (pid {self.pid}) {how}"


def name_of(number: int) -> str:
    """Return the name of a signal.

    >>> name_of(9), name_of(40)
    ('SIGKILL', 'signal 40')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def in_order(endings: Iterable[Ending]) -> list[Ending]:
    """Return ends that were noticed together, the likely first one first.

    A process that was killed is the cause of an error in the others, and not the reverse. So is it
    the cause of an abort: collective libraries abort a process that has lost another one.
    """
    return sorted(endings, key=_distance_from_the_cause)


def _distance_from_the_cause(ending: Ending) -> int:
    if ending.signal is None or not ending.is_failure:
        return 2
    return 1 if ending.signal == "SIGABRT" else 0


def first_failure(endings: Sequence[Ending]) -> Ending | None:
    """Return the first failure of the ends, which are in order; None if there is none."""
    return next((ending for ending in endings if ending.is_failure), None)


def exit_code(endings: Sequence[Ending], *, has_stopped: bool = False) -> int:
    """Return the exit code of the pod: that of the first failure, else 143 if it has stopped.

    Args:
        endings: the ends of all processes, in order.
        has_stopped: whether a process has told that it stops on request, whatever its exit code is:
            0 would say that the training is complete.
    """
    if failure := first_failure(endings):
        return failure.code
    has_stopped |= any(ending.code == STOPPED for ending in endings)
    return STOPPED if has_stopped else 0


def last_words(ending: Ending, *, killed_by_us: str | None) -> dict[str, str | int | None] | None:
    """Return the termination message for a process that could not write one.

    There is none for a process that exits by itself. Without a message, the kubelet uses the end of
    the log, which says more than the exit code.

    Args:
        ending: how the process ended.
        killed_by_us: why the launcher has sent SIGKILL; None if it has not.
    """
    if ending.signal is None:
        return None
    hint = _HINTS.get(ending.signal, "")
    if killed_by_us is not None and ending.signal == "SIGKILL":
        hint = f"the launcher did this: {killed_by_us}"
    rank = int(ending.rank) if ending.rank.isdecimal() else None
    return {"exception": f"killed by {ending.signal}", "message": hint, "rank": rank}
