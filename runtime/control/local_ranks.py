"""Finds the training processes on this machine, by the variables that each has."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.control import stacks
from runtime.world import reserve
from runtime.world.contract import NAME, RANK

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Rank:
    """A training process on this machine.

    Attributes:
        rank: its rank in the world.
        pid: its number.
        job: the name of its job; empty outside of a job.
    """

    rank: int
    pid: int
    job: str


@dataclass(frozen=True, slots=True)
class _Process:
    """A process of /proc whose environment can be read."""

    pid: int
    parent: int
    env: Mapping[str, str]


def at_or_below(pid: int) -> list[Rank]:
    """Return the ranks that are a process, or were started below it.

    Args:
        pid: the process.
    """
    processes = {one.pid: one for one in _processes()}
    below = [one for one in processes.values() if pid in _line(one, processes)]
    return _ranks(below, processes)


def below(pid: int) -> list[Rank]:
    """Return the ranks that were started below a process, which may have the variables, too.

    Args:
        pid: the process.
    """
    processes = {one.pid: one for one in _processes()}
    found = [one for one in processes.values() if pid in _line(one, processes)[1:]]
    return _ranks(found, {number: one for number, one in processes.items() if number != pid})


def of_job(job: str) -> list[Rank]:
    """Return the ranks of a job on this machine.

    Args:
        job: the name of the job.
    """
    processes = {one.pid: one for one in _processes()}
    return _ranks([one for one in processes.values() if one.env.get(NAME) == job], processes)


def _processes() -> Iterator[_Process]:
    """Yield the processes whose environment this user may read."""
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            env = Path(folder, "environ").read_bytes()
            stat = Path(folder, "stat").read_text(errors="replace")
            name, _, rest = stat.rpartition(")")
            parent = int(rest.split()[1])
            if name.partition("(")[2] == reserve.NAME:
                continue  # it is none yet
            yield _Process(int(folder.name), parent, _variables(env))


def _variables(env: bytes) -> Mapping[str, str]:
    pairs = (one.decode(errors="replace").partition("=") for one in env.split(b"\0"))
    return {name: value for name, _, value in pairs if name in (RANK, NAME)}


def _line(process: _Process, processes: Mapping[int, _Process]) -> list[int]:
    """Return a process and those above it."""
    line, one = [], process
    while one.pid not in line:
        line.append(one.pid)
        one = processes.get(one.parent, one)
    return line


def _ranks(found: Sequence[_Process], processes: Mapping[int, _Process]) -> list[Rank]:
    """Return the training process of each rank among some processes.

    The launcher and what a rank has started may have the same environment: the process of a rank is
    the one that writes its stacks, or before that the uppermost one. So may this process, which is
    none: what is run in a pod has the variables of its container.
    """
    others = (one for one in found if one.pid != os.getpid())
    with_rank = [one for one in others if one.env.get(RANK, "").isdecimal()]
    installed = [one for one in with_rank if stacks.can_be_asked(one.pid)]
    known = {_key(one) for one in installed}
    missing = [one for one in with_rank if _key(one) not in known]
    uppermost = [one for one in missing if _key(processes.get(one.parent)) != _key(one)]
    ranks = [_rank(one) for one in (*installed, *uppermost)]
    return sorted(ranks, key=lambda one: (one.job, one.rank, one.pid))


def _key(process: _Process | None) -> tuple[str | None, str | None]:
    return (process.env.get(NAME), process.env.get(RANK)) if process else (None, None)


def _rank(process: _Process) -> Rank:
    return Rank(int(process.env[RANK]), process.pid, process.env.get(NAME, ""))
