"""Ends processes that have left their container in every way: group, session and environment.

Such a daemon becomes a child of this program, if the kernel makes this program adopt orphans
(Linux).
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

KILL_ROUNDS = 10  # a process may start another process before it is killed
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Kill, at the end of the block, what was started in it and has become a child of this one."""
    if sys.platform != "linux":
        yield
        return
    before = {*_children(os.getpid())}
    _adopt(True)
    try:
        yield
    finally:
        for _ in range(KILL_ROUNDS):
            if not _kill({*_children(os.getpid())} - before):
                break
        _adopt(False)


def _adopt(adopts: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0)


def _kill(pids: set[int]) -> bool:
    """Kill and reap children, whose own children then become ours; return whether any was there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return bool(pids)


def _children(parent: int) -> list[int]:
    return [pid for pid, of in _parents().items() if of == parent]


def _parents() -> Mapping[int, int]:
    """Return the parent of each process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            # The name of the program, in brackets, may contain spaces and brackets.
            _, parent, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            found[int(entry.name)] = int(parent)
    return found
