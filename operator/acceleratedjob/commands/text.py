"""Formats exit codes and columns for a terminal."""

import signal
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from acceleratedjob.observe.endings import SIGNAL_BASE

MIN_WIDTH = 12  # characters, to which long lines are broken at least
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
    return cut(_SEPARATOR.join(kept.values()), width)


def cut(text: str, width: int) -> str:
    """Return the beginning of a text, with a mark if it is too long.

    >>> cut("digits", 6), cut("digits", 4)
    ('digits', 'dig…')
    """
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"[:width]


def aligned(rows: Iterable[tuple[str, ...]], widths: Iterable[int] = ()) -> list[str]:
    """Format rows as lines with aligned columns of given minimum widths."""
    table = list(rows)
    least = [*widths] or [0] * len(table[0])
    wide = [
        max(low, *(len(row[i]) for row in table)) if table else low for i, low in enumerate(least)
    ]
    lines = ("   ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)) for row in table)
    return [line.rstrip() for line in lines]


def wrapped(lines: Iterable[str], *, width: int) -> Iterator[str]:
    """Yield lines of at most so many characters; a line that continues another is indented more.

    >>> list(wrapped(["  a long sentence"], width=12))
    ['  a long', '    sentence']
    """
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        yield from textwrap.wrap(
            line,
            max(width, MIN_WIDTH),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        ) or [""]
