"""Where the threads of a process are: told by the process itself, or asked for by another one.

A process that has called `install` writes the stacks of all its threads to an anonymous file when
it gets a signal. `faulthandler` does this at C level, so it also works while a thread holds the
interpreter lock. Another process of the same user, or root, finds the file in /proc; it has no
name in any directory, and ends with its process.

The signal is a real-time signal that had no handler, the highest first. Schedulers and trainers use
SIGUSR1 and SIGUSR2; systemd and init use low real-time signals, valgrind the highest. The handlers
that a script gives to `faulthandler` itself stay as they are. Only Linux has what this needs.
"""

import contextlib
import faulthandler
import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.control import frames
from runtime.control.frames import Stack, Thread

log = logging.getLogger(__name__)

PATIENCE = 3.0  # seconds for a process to write its stacks
_NAME = "acceleratedjob-stacks"
_LINK = f"/memfd:{_NAME} (deleted)"
_PERIOD = 0.01  # seconds between two looks at a process that writes
_MAX_HEADER = 256  # bytes
_MAX_TEXT = 4 << 20  # bytes
_STATES = {
    "T": "it is stopped by a signal (SIGSTOP, SIGTSTP); SIGCONT lets it go on",
    "t": "a debugger has stopped it",
    "Z": "it has ended, and its parent has not waited for it",
    "X": "it has ended",
}


class NoStacks(Exception):
    """A process did not give its stacks; the message says why."""


class NoProcess(NoStacks):
    """There is no such process, or it has just ended."""


class NotOurs(NoStacks):
    """A process belongs to another user."""


class NotInstalled(NoStacks):
    """A process has no file for its stacks."""


class Stopped(NoStacks):
    """A process is stopped, or has ended."""


@dataclass(frozen=True, slots=True)
class Dump:
    """The stacks of the threads of a process.

    Attributes:
        pid: the process.
        main: the ident of the main thread.
        threads: the threads, in no particular order.
    """

    pid: int
    main: int
    threads: tuple[Thread, ...]

    @property
    def stack(self) -> Stack:
        """The stack of the main thread; empty if it is not among the threads."""
        return next((one.stack for one in self.threads if one.ident == self.main), ())


@dataclass(frozen=True, slots=True)
class _File:
    """The file that the stacks of this process are written to."""

    descriptor: int
    number: int  # of the signal


_installed: list[_File] = []  # one at most
_forking: list[bool] = []  # one if `uninstall` is registered for forked children


def install() -> bool:
    """Have the stacks of this process written when another process asks; once a process.

    Returns:
        Whether this process can be asked: not without Linux, or without a free signal.
    """
    if _installed:
        return True
    if sys.platform != "linux":
        return False
    try:
        number = _free_signal()
        descriptor = None if number is None else os.memfd_create(_NAME)
    except OSError as error:  # without /proc, or a kernel that forbids it
        log.warning("the stacks of this process cannot be read from outside: %s", error)
        return False
    if number is None or descriptor is None:
        return False
    _register(_File(descriptor, number))
    return True


def _register(file: _File) -> None:
    flags = fcntl.fcntl(file.descriptor, fcntl.F_GETFL)
    fcntl.fcntl(file.descriptor, fcntl.F_SETFL, flags | os.O_APPEND)  # readers shorten the file
    os.write(file.descriptor, _header(file.number))
    faulthandler.register(file.number, file=file.descriptor, all_threads=True, chain=False)
    _installed.append(file)
    if not _forking:
        os.register_at_fork(after_in_child=uninstall)  # the file is the parent's
        _forking.append(True)


def uninstall() -> None:
    """Undo `install`."""
    while _installed:
        file = _installed.pop()
        faulthandler.unregister(file.number)
        os.close(file.descriptor)


def _free_signal() -> int | None:
    """Return the highest real-time signal but one that has no handler; None if there is none."""
    status = Path("/proc/self/status")
    handled = _mask(status, "SigCgt") | _mask(status, "SigIgn")
    numbers = range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1)
    return next((one for one in numbers if not _has(handled, one)), None)


def _header(number: int) -> bytes:
    told = {"pid": os.getpid(), "signal": number, "main": threading.main_thread().ident}
    return json.dumps(told).encode() + b"\n"


def here() -> Dump:
    """Return the stacks of this process; needs the interpreter lock, and no signal."""
    main = threading.main_thread().ident or 0
    alive = sys._current_frames().items()  # noqa: SLF001  # the only way to another thread's stack
    return Dump(os.getpid(), main, tuple(Thread(one, frames.of(top)) for one, top in alive))


def can_be_asked(pid: int) -> bool:
    """Whether a process has called `install`, and belongs to this user."""
    with contextlib.suppress(OSError):
        return _found(Path("/proc", str(pid))) is not None
    return False


def ask(pid: int, patience: float = PATIENCE) -> Dump:
    """Return the stacks of another process, which has called `install`.

    Args:
        pid: the process.
        patience: the time to wait for it, in seconds.

    Raises:
        NoProcess: there is no such process.
        NotOurs: it belongs to another user.
        NotInstalled: it has not called `install`.
        Stopped: it is stopped, or has ended.
        NoStacks: it did not write its stacks in time.
    """
    proc = Path("/proc", str(pid))
    try:
        _must_run(proc)
        with _opened(proc) as descriptor:
            return _asked(proc, descriptor, patience)
    except PermissionError:
        sentence = f"process {pid} belongs to another user: run this as its user or as root"
        raise NotOurs(sentence) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoProcess(f"there is no process {pid} on this machine") from None


def _asked(proc: Path, descriptor: int, patience: float) -> Dump:
    """Return the stacks that a process writes to its file now."""
    deadline = time.monotonic() + patience
    _lock(descriptor, deadline)
    number, main, length = _read_header(proc, descriptor)
    os.ftruncate(descriptor, length)
    blocking = _blocking(proc, number)
    os.kill(int(proc.name), number)
    # In this order: once something is written, the handler runs, or has run to its end.
    while os.fstat(descriptor).st_size == length or _is_writing(proc, number, blocking):
        if time.monotonic() > deadline:
            raise NoStacks(
                f"process {proc.name} did not write its stacks in {patience:g} s: its main thread "
                f"blocks signal {number}, or waits in the kernel (its state in /proc is "
                f"{_state(proc)})"
            )
        time.sleep(_PERIOD)
        _must_run(proc)
    text = os.pread(descriptor, _MAX_TEXT, length).decode(errors="replace")
    dump = Dump(int(proc.name), main, frames.parse(text))
    if not dump.stack:
        raise NoStacks(
            f"process {proc.name} did not tell where its main thread is: `faulthandler` writes "
            f"{frames.MAX_THREADS} threads, the newest first; it wrote {len(dump.threads)}"
        )
    return dump


def _must_run(proc: Path) -> None:
    """Check that a process exists and is not stopped."""
    if (state := _state(proc)) in _STATES:
        raise Stopped(f"process {proc.name} did not give its stacks: {_STATES[state]}")


def _state(proc: Path) -> str:
    """Return the letter that /proc has for the state of a process."""
    return Path(proc, "stat").read_text(errors="replace").rpartition(")")[2].split()[0]


@contextlib.contextmanager
def _opened(proc: Path) -> Iterator[int]:
    """Open the file that a process writes its stacks to."""
    if (found := _found(proc)) is None:
        raise NotInstalled(
            f"process {proc.name} does not write its stacks: it has not made an Accelerator of "
            f"`runtime` yet, or replaced itself by another program. Install py-spy and run "
            f"`py-spy dump --pid {proc.name}`"
        )
    descriptor = os.open(found, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _found(proc: Path) -> Path | None:
    return next((one for one in Path(proc, "fd").iterdir() if _link(one) == _LINK), None)


def _link(path: Path) -> str:
    with contextlib.suppress(OSError):  # closed meanwhile
        return str(path.readlink())
    return ""


def _lock(descriptor: int, deadline: float) -> None:
    """Wait until no other process reads; the lock ends when the file is closed."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise NoStacks("another process reads the same stacks, and does not end") from None
            time.sleep(_PERIOD)
        else:
            return


def _read_header(proc: Path, descriptor: int) -> tuple[int, int, int]:
    """Return the signal, the ident of the main thread, and the length of the header in bytes."""
    line, end, _ = os.pread(descriptor, _MAX_HEADER, 0).partition(b"\n")
    try:
        told: dict[str, Any] = json.loads(line)
        pid, number, main = (int(told[name]) for name in ("pid", "signal", "main"))
    except (ValueError, TypeError, KeyError):
        raise NoStacks(f"the file of process {proc.name} has no valid header") from None
    status = Path(proc, "status")
    own = int(_field(status, "NSpid").split()[-1])  # its number among its own processes
    if not end or pid != own or not _has(_mask(status, "SigCgt"), number):
        raise NotInstalled(f"process {proc.name} has the file of another process")
    return number, main, len(line) + 1


def _is_writing(proc: Path, number: int, before: frozenset[str]) -> bool:
    """Whether a signal waits for a process or is handled in it: a handler blocks its own signal."""
    status = Path(proc, "status")
    is_pending = _has(_mask(status, "ShdPnd") | _mask(status, "SigPnd"), number)
    return is_pending or bool(_blocking(proc, number) - before)


def _blocking(proc: Path, number: int) -> frozenset[str]:
    """Return the threads of a process that block a signal."""
    found = set()
    for task in Path(proc, "task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            if _has(_mask(Path(task, "status"), "SigBlk"), number):
                found.add(task.name)
    return frozenset(found)


def _mask(status: Path, name: str) -> int:
    return int(_field(status, name), 16)


def _field(status: Path, name: str) -> str:
    """Return a field of a `status` file of /proc; "0" if the kernel does not write it."""
    lines = status.read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0")


def _has(mask: int, number: int) -> bool:
    return bool(mask >> (number - 1) & 1)
