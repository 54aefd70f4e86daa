"""Formats durations, exit codes and columns for a terminal."""

import signal
from collections.abc import Iterable

from acceleratedjob.observe.endings import SIGNAL_BASE

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_EXIT_CODES = {  # meanings by the convention of shells and container runtimes
    126: "the command cannot be executed",
    127: "the command was not found",
}
_SIGNALS = {
    signal.SIGKILL: "out of memory, or not stopped within the grace period",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "native code aborted, for example NCCL's watchdog or a C++ exception",
    signal.SIGBUS: "often a full /dev/shm",
    signal.SIGTERM: "asked to stop",
}


def age(seconds: float) -> str:
    """Format a duration in its two largest units.

    >>> [age(n) for n in (0, 59.9, 60, 3700, 90061)]
    ['0s', '59s', '1m', '1h1m', '1d1h']
    """
    left, parts = max(0, int(seconds)), []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        parts.append((number, unit))
    first = next((i for i, (number, _) in enumerate(parts) if number), 0)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"


def ending(exit_code: int | None, number: int | None) -> str:
    """Describe an exit code or a signal; empty if neither is known.

    >>> ending(1, None), ending(137, 9)[:25]
    ('exit code 1', 'exit code 137 (SIGKILL, o')
    """
    if exit_code is None:
        return ""
    why = _EXIT_CODES.get(exit_code, "")
    if number is not None and number in {*signal.Signals}:
        named = signal.Signals(number)
        why = f"{named.name}, {_SIGNALS[named]}" if named in _SIGNALS else named.name
    elif number is not None:
        why = f"{SIGNAL_BASE} + signal {number}"
    return f"exit code {exit_code} ({why})" if why else f"exit code {exit_code}"


def aligned(rows: Iterable[tuple[str, ...]], widths: Iterable[int] = ()) -> list[str]:
    """Format rows as lines with aligned columns of given minimum widths."""
    table = list(rows)
    least = [*widths] or [0] * len(table[0])
    wide = [
        max(low, *(len(row[i]) for row in table)) if table else low for i, low in enumerate(least)
    ]
    lines = ("   ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)) for row in table)
    return [line.rstrip() for line in lines]
