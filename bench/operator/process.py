"""What a process costs, as the kernel counts it."""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_LOOK = 0.5  # seconds over which a process' share of a core is told
_CALM = 0.08  # of a core: what a controller's timers take
_PATIENCE = 300.0  # seconds until calm; then something is wrong


class NotCalm(RuntimeError):
    """A process does not come to rest."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, by its id."""

    pid: int

    def cpu(self) -> float:
        """CPU-seconds of all its threads since it began."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Bytes that it has in memory now."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """The most bytes that it has had in memory."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        return float(kilobytes) * 1024


def find(program: Path, component: str) -> Process:
    """The process that runs one component of a program.

    Raises:
        LookupError: there is none, or more than one.
    """
    found = [pid for pid, line in _command_lines() if line[:2] == [str(program), component]]
    if len(found) != 1:
        raise LookupError(f"one process must run {program} {component}, found {found}")
    return Process(found[0])


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = file.read_text(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        yield int(file.parent.name), text.split("\0")


async def calm(processes: Sequence[Process]) -> None:
    """Wait until processes have nothing left to do.

    Raises:
        NotCalm: they still work after minutes.
    """
    end = time.monotonic() + _PATIENCE
    shares = [1.0]
    while sum(shares) > _CALM * len(shares):
        if time.monotonic() > end:
            raise NotCalm(f"processes must come to rest, but take {shares} of a core")
        before = [process.cpu() for process in processes]
        await asyncio.sleep(_LOOK)
        shares = [(p.cpu() - b) / _LOOK for p, b in zip(processes, before, strict=True)]
