"""Formats exit codes and columns for a terminal."""

import signal
from collections.abc import Iterable, Mapping

from acceleratedjob.observe.endings import SIGNAL_BASE

_SEPARATOR = "  "  # between the parts of a line
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


def fitted(parts: Mapping[str, str], optional: Iterable[str], width: int) -> str:
    """Join the parts of a line; as many are left out, in a given order, as it would be too long.

    >>> fitted({"name": "digits", "step": "step 3", "eta": "ETA 0:12"}, ["eta", "step"], 15)
    'digits  step 3'
    """
    kept = dict(parts)
    for least in optional:
        if len(_SEPARATOR.join(kept.values())) > width:
            kept.pop(least, None)
    return _SEPARATOR.join(kept.values())[:width]


def aligned(rows: Iterable[tuple[str, ...]], widths: Iterable[int] = ()) -> list[str]:
    """Format rows as lines with aligned columns of given minimum widths."""
    table = list(rows)
    least = [*widths] or [0] * len(table[0])
    wide = [
        max(low, *(len(row[i]) for row in table)) if table else low for i, low in enumerate(least)
    ]
    lines = ("   ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)) for row in table)
    return [line.rstrip() for line in lines]
