"""Splits the output of a process, any bytes, into lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 2**20  # bytes; a longer line is split, so that memory is bounded
# A \r at the end of the buffer may be the first half of \r\n.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


@dataclass(frozen=True, slots=True)
class Line:
    r"""A line of output.

    Attributes:
        text: the line without its end.
        is_overwritten: whether the line ends in \r, so that a terminal shows the next line over it.
    """

    text: str
    is_overwritten: bool = False


class LineCutter:
    r"""Splits a stream of bytes at \n, \r\n and \r.

    >>> cutter = LineCutter()
    >>> [line.text for line in cutter.feed(b"a\n 10%\r 20%\rb")]
    ['a', ' 10%', ' 20%']
    >>> [line.text for line in cutter.end()]
    ['b']
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that these bytes complete."""
        buffer, start, seen = self._rest + data, 0, max(0, len(self._rest) - 1)
        for end in _LINE_END.finditer(buffer, seen):
            yield from _lines(buffer[start : end.start()], end[0])
            start = end.end()
        self._rest = buffer[start:]
        while len(self._rest) > MAX_LINE:
            yield from _lines(self._rest[:MAX_LINE], b"\n")
            self._rest = self._rest[MAX_LINE:]

    def end(self) -> Iterator[Line]:
        """Yield the last line, if it is not empty."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        if rest:
            yield from _lines(rest, b"\n")


def _lines(data: bytes, end: bytes) -> Iterator[Line]:
    is_overwritten = end == b"\r"
    if data or not is_overwritten:  # a progress bar begins with \r, after an empty line
        yield Line(data.decode(errors="replace"), is_overwritten)
