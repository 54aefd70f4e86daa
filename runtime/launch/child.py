"""Runs a program that ends when the launcher does, even if the launcher is killed (Linux).

The arguments are the process ID of the launcher, and the program with its arguments, which replaces
this process. A file of its own, run without `site`: it starts in a few milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_CANNOT_START = 126  # as in shells
_NOT_FOUND = 127


def main() -> None:
    """Replace this process by the program."""
    launcher, *argv = sys.argv[1:]
    _undo_signals()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # no shell is needed
    except OSError as error:
        sys.stderr.write(f"runtime.launch: {argv[0]!r} cannot be started: {error.strerror}\n")
        sys.exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_START)


def _undo_signals() -> None:
    """Undo what the interpreter has set for itself; what was ignored before stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
