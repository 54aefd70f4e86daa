"""Splits the output of a process into lines, whatever bytes it writes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 2**20  # bytes; a longer line is cut, so that no output is kept without bound
# A carriage return at the end of what has been read may be the first half of \r\n.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output."""

    text: str
    is_overwritten: bool = False  # ended by \r: on a terminal, the next line is written over it


class LineCutter:
    r"""Cuts a stream of bytes at \n, \r\n and \r.

    >>> cutter = LineCutter()
    >>> [line.text for line in cutter.feed(b"a\n 10%\r 20%\rb")]
    ['a', ' 10%', ' 20%']
    >>> [line.text for line in cutter.end()]
    ['b']
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Line]:
        """Return the lines that are complete with these bytes."""
        buffer, start, seen = self._rest + data, 0, max(0, len(self._rest) - 1)
        for end in _LINE_END.finditer(buffer, seen):
            yield from _lines(buffer[start : end.start()], end[0])
            start = end.end()
        self._rest = buffer[start:]
        while len(self._rest) > MAX_LINE:
            yield from _lines(self._rest[:MAX_LINE], b"\n")
            self._rest = self._rest[MAX_LINE:]

    def end(self) -> Iterator[Line]:
        """Return the last line, if it has no end of its own."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        if rest:
            yield from _lines(rest, b"\n")


def _lines(data: bytes, end: bytes) -> Iterator[Line]:
    is_overwritten = end == b"\r"
    if data or not is_overwritten:  # a progress bar begins with \r: nothing is before it
        yield Line(data.decode(errors="replace"), is_overwritten)
