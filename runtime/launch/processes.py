"""Starts, finds, signals and reaps the processes of the launcher.

Each training process leads a session of its own, so that a Ctrl-C in a terminal reaches only the
launcher. Whatever they start stays a descendant of the launcher, which adopts orphans: as PID 1 of
a container the kernel makes it do so, elsewhere `adopt_orphans`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runtime import launch

_CHILD = f"{launch.__path__[0]}/child.py"
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_IS_LINUX = sys.platform == "linux"


def is_init() -> bool:
    """Whether this is PID 1: when it ends, the kernel kills all processes of the container."""
    return os.getpid() == 1


def adopt_orphans() -> None:
    """Become the parent of all descendants whose parent ends (Linux)."""
    if _IS_LINUX and not is_init():
        import ctypes  # noqa: PLC0415  # it costs PID 1 more than all of the launcher's own modules

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(argv: Sequence[str], env: Mapping[str, str], *, reads_stdin: bool) -> int:
    """Start a process in a session of its own, and return its process ID.

    It shares the output of the launcher: nothing is buffered, and a terminal stays one. To be
    called in the main thread, since the kernel ends the process when the starting thread ends.

    Args:
        argv: the program and its arguments.
        env: the environment variables.
        reads_stdin: whether it reads from the standard input of the launcher, else from /dev/null.

    Raises:
        OSError: the program cannot be started. Where this is not PID 1 on Linux, the process
            exits with code 126 or 127 instead.
    """
    if _IS_LINUX and not is_init():
        argv = [sys.executable, "-I", "-S", _CHILD, str(os.getpid()), *argv]
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    return os.posix_spawnp(
        argv[0],
        list(argv),
        env,
        file_actions=[] if reads_stdin else [nothing],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )


def reap() -> Iterator[tuple[int, int]]:
    """Yield the process ID and the status of each child that has ended, orphans included.

    The status is the exit code, or minus the number of a signal.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def left_behind(sessions: Iterable[int]) -> list[int]:
    """Return what is left of all processes that were started, as arguments of `os.kill`.

    These are all descendants of this process; without /proc, the process groups that are not
    empty, as negative numbers.

    Args:
        sessions: the process IDs of all processes that were started.
    """
    if _IS_LINUX:  # where no child means no descendant
        return _descendants(os.getpid()) if _has_child() else []
    return [-pid for pid in sessions if send([-pid], 0)]


def send(targets: Iterable[int], number: int) -> bool:
    """Send a signal, and return whether any of the targets has got it.

    A target that has ended, or that has become another user's, does not get it.

    Args:
        targets: process IDs, or minus the IDs of process groups.
        number: the number of the signal; 0 sends nothing.
    """
    found = False
    for target in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, number)
            found = True
    return found


def _has_child() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants(root: int) -> list[int]:
    """Return the process IDs of all descendants of a process."""
    parents = dict(_parents())
    return [pid for pid in parents if _is_below(pid, root, parents)]


def _is_below(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    seen = set()
    while pid in parents and pid not in seen:  # the list is not from one instant
        seen.add(pid)
        pid = parents[pid]
        if pid == root:
            return True
    return False


def _parents() -> Iterator[tuple[int, int]]:
    """Yield the IDs of all processes, and of their parents."""
    from pathlib import Path  # noqa: PLC0415  # most launchers need it never

    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            stat = (entry / "stat").read_bytes()
            # The name of the program, in brackets, may contain spaces and brackets.
            _, parent, *_ = stat.rpartition(b")")[2].split()
            yield int(entry.name), int(parent)
