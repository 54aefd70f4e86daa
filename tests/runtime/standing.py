"""A process that gives its stacks, and does one thing without end: `standing.py WHAT`."""

import collections
import faulthandler
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from runtime.control import stacks


def waits() -> None:
    threading.Event().wait()


def loops_in_c() -> None:
    """Without ever giving the interpreter lock to another thread."""
    collections.deque(itertools.repeat(0), maxlen=0)


def blocks_all_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    say("blocked")
    waits()


def has_many_threads() -> None:
    for _ in range(150):
        threading.Thread(target=waits, daemon=True).start()
    say("started")
    waits()


def has_a_worker() -> None:
    """A forked child, as a DataLoader's worker, waits as long as this process lives."""
    ours, its = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    context.Process(target=say_and_wait, args=(ours, its), daemon=True).start()
    waits()


def say_and_wait(ours: Connection, its: Connection) -> None:
    ours.close()
    say(os.getpid())
    its.poll(None)  # it ends with the other end's process


def uses_signals_itself() -> None:
    """The script's own handlers stay as they are."""
    told: list[int] = []
    signal.signal(signal.SIGRTMAX - 1, lambda number, _frame: told.append(number))
    faulthandler.register(signal.SIGUSR1, file=sys.stderr)
    assert stacks.install()
    signal.raise_signal(signal.SIGRTMAX - 1)
    assert told == [signal.SIGRTMAX - 1]


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(what: str) -> None:
    if what == "uses_signals_itself":
        uses_signals_itself()
        what = "waits"
    elif what != "has_no_file":
        assert stacks.install()
    say("ready")
    globals()["waits" if what == "has_no_file" else what]()


if __name__ == "__main__":
    main(sys.argv[1])
