"""The CPU time and memory of a process, from /proc."""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # per second
_LOOK = 0.5  # seconds over which the CPU usage of a process is measured
_CALM = 0.08  # CPU cores: an idle process uses less, for its timers
_PATIENCE = 300.0  # the maximum seconds until processes are idle


class NotCalm(RuntimeError):
    """A process does not become idle."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process.

    Attributes:
        pid: the process id.
    """

    pid: int

    def cpu(self) -> float:
        """Return the CPU seconds of all threads since the process started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Return the resident memory, in bytes."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """Return the peak of the resident memory, in bytes."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        return float(kilobytes) * 1024


def find(program: Path, component: str) -> Process:
    """Return the process that runs a component of a program.

    Raises:
        LookupError: there is no such process, or more than one.
    """
    found = [pid for pid, line in _command_lines() if line[:2] == [str(program), component]]
    if len(found) != 1:
        raise LookupError(f"one process must run {program} {component}, found {found}")
    return Process(found[0])


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = file.read_text(errors="replace")
        except OSError:  # the process has ended
            continue
        yield int(file.parent.name), text.split("\0")


async def calm(processes: Sequence[Process]) -> None:
    """Wait until processes are idle.

    Raises:
        NotCalm: they are not idle after minutes.
    """
    end = time.monotonic() + _PATIENCE
    shares = [1.0]
    while sum(shares) > _CALM * len(shares):
        if time.monotonic() > end:
            raise NotCalm(f"processes must become idle, but use {shares} CPU cores")
        before = [process.cpu() for process in processes]
        await asyncio.sleep(_LOOK)
        shares = [(p.cpu() - b) / _LOOK for p, b in zip(processes, before, strict=True)]
