"""The reports of other processes on this machine, for ranks that cannot answer by themselves."""

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

from runtime.control import local_ranks, stacks
from runtime.control.verdicts.report import Report

_LEAST = 0.3  # seconds for each process, however many there are
_STATES = {"D": "sleeps in the kernel and handles no signals", "S": "waits", "R": "runs"}


def report_of(pid: int, patience: float = stacks.PATIENCE) -> Report:
    """Return where a process is; one that gives no stack has the reason as its excuse.

    Args:
        pid: the process.
        patience: the time to wait for its stacks, in seconds.
    """
    try:
        return Report.of(stacks.ask(pid, patience).stack)
    except stacks.NoStacks as error:
        return Report.of((), excuse=f"{error}{_in_kernel(pid)}")


def reports_below(
    launcher: int, ranks: Collection[int], patience: float = stacks.PATIENCE
) -> dict[int, Report]:
    """Return where the training processes are that a launcher has started.

    Args:
        launcher: the process ID of the launcher.
        ranks: the ranks that are asked for; those that run elsewhere have no report.
        patience: the time to wait for all of them, in seconds.
    """
    until = time.monotonic() + patience
    found = [one for one in local_ranks.below(launcher) if one.rank in ranks]
    return {one.rank: report_of(one.pid, max(_LEAST, until - time.monotonic())) for one in found}


def _in_kernel(pid: int) -> str:
    """Return where a process is in the kernel, as far as /proc tells it; empty if it does not."""
    folder = Path("/proc", str(pid))
    with contextlib.suppress(OSError, IndexError):  # it has ended, or the kernel forbids it
        state = Path(folder, "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        at = Path(folder, "wchan").read_text(errors="replace").strip("0\0\n ")
        if state in _STATES:
            return f"; it {_STATES[state]}" + (f" (in {at} of the kernel)" if at else "")
    return ""
