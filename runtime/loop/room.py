"""Whether memory has room for a checkpoint."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.checkpoint.sizes import convert_bytes
from runtime.world import cgroup

_MARGIN = 1.1  # a checkpoint's files have more than its tensors
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on a machine or in a container.

    Attributes:
        files: the free bytes of the file system in memory.
        memory: the bytes of memory that this process and the files may still take.
    """

    files: int
    memory: int

    @classmethod
    def of(cls, folder: Path) -> "Room":
        """Return the room of a directory in memory, which exists."""
        return cls(shutil.disk_usage(folder).free, min(_limits(), default=0))

    def lack(self, size: int, copies: int, *, with_snapshot: bool) -> str | None:
        """Return what is missing; None if there is room.

        Half of the files' free room stays free, for the tensors of data loaders' workers.

        Args:
            size: the bytes of a checkpoint.
            copies: the number of checkpoints for which there must be room.
            with_snapshot: whether there must also be room for a snapshot of the states.
        """
        needed = int(size * _MARGIN * copies)
        if 2 * needed > self.files:
            return _sentence("its file system", 2 * needed, self.files)
        needed += size if with_snapshot else 0
        if needed > self.memory:
            return _sentence("the container", needed, self.memory)
        return None


def _sentence(where: str, needed: int, free: int) -> str:
    return f"{where} must have {convert_bytes(needed)} free, and has {convert_bytes(free)}"


def _limits() -> Iterator[int]:
    """Yield how much more memory each limit allows: the machine's, and those of all cgroups."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * _KIB
    yield from cgroup.memory_left()
