"""The control group of this container, as the kernel shows it: its memory."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_V2 = "0::/"


def memory_left(root: Path = ROOT, own: Path = _OWN) -> Iterator[int]:
    """Yield the bytes that this group and those above it have left, as far as they have a limit.

    Files that were not used for a while do not count, because the kernel drops them first.

    Args:
        root: the directory of the top group (version 2).
        own: the file that names the group of this process.

    Raises:
        OSError: a file cannot be read.
    """
    inner = root / _name(own)
    for folder in (inner, *inner.parents):
        if folder.is_relative_to(root) and (folder / "memory.max").is_file():
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                used = int((folder / "memory.current").read_text())
                yield max(0, int(limit) - used + _droppable(folder))


def oom_kills(root: Path = ROOT, own: Path = _OWN) -> int:
    """Return how many processes the kernel has killed at the memory limit; 0 if it does not say.

    Args:
        root: the directory of the top group, of either version.
        own: the file that names the group of this process.
    """
    for file in (root / _name(own) / "memory.events", root / "memory" / "memory.oom_control"):
        try:
            return _number(file, "oom_kill")
        except (OSError, ValueError):  # the other version of control groups, or none
            continue
    return 0


def _name(own: Path) -> str:
    """Return the path of the group below the top one; empty if it is not known."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix(_V2) for line in lines if line.startswith(_V2)), "")


def _droppable(folder: Path) -> int:
    return _number(folder / "memory.stat", "inactive_file")


def _number(file: Path, key: str) -> int:
    """Return a number of a file of names and numbers; 0 if the name is not there."""
    rows = dict(line.split() for line in file.read_text().splitlines())
    return int(rows.get(key, 0))
