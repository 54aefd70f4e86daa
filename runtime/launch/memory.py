"""Tells whether the kernel has killed a process of this container for lack of memory."""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_KEY = "oom_kill"


def oom_kills(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many processes the kernel has killed at the memory limit; 0 if it does not say.

    Args:
        root: where the control groups are.
        own: the file that names the control group of this process.
    """
    for file in (root / _group(own) / "memory.events", root / "memory" / "memory.oom_control"):
        try:
            rows = dict(line.split() for line in file.read_text().splitlines())
            return int(rows.get(_KEY, 0))
        except (OSError, ValueError):  # the other version of control groups, or none
            continue
    return 0


def _group(own: Path) -> str:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
