"""Splits the output of a process, any bytes, into lines."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LINE = 2**20  # bytes; a longer line is split, so that memory is bounded
MAX_BEGINNING = 4096  # bytes; a prompt or a progress bar is shorter
# A \r at the end of the buffer may be the first half of \r\n.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


@dataclass(frozen=True, slots=True)
class Line:
    r"""A line of output.

    Attributes:
        text: the line without its end.
        is_overwritten: whether a \r comes before or after it, so that a terminal overwrites it, as
            a progress bar asks for.
        is_finished: whether the end of the line was written.
    """

    text: str
    is_overwritten: bool = False
    is_finished: bool = True


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
        self._after_return = False  # whether a \r comes before the rest

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that these bytes complete."""
        buffer, start, seen = self._rest + data, 0, max(0, len(self._rest) - 1)
        for end in _LINE_END.finditer(buffer, seen):
            yield from _lines(buffer[start : end.start()], end[0])
            start, self._after_return = end.end(), end[0] == b"\r"
        self._rest = buffer[start:]
        while len(self._rest) > MAX_LINE:
            yield from _lines(self._rest[:MAX_LINE], b"\n")
            self._rest = self._rest[MAX_LINE:]

    @property
    def beginning(self) -> Line | None:
        r"""The line that has not ended, if it is short; None if there is none.

        >>> cutter = LineCutter()
        >>> [*cutter.feed(b"(Pdb) ")], cutter.beginning
        ([], Line(text='(Pdb) ', is_overwritten=False, is_finished=False))
        """
        if not 0 < len(self._rest) <= MAX_BEGINNING:
            return None
        text = self._rest.removesuffix(b"\r")
        decoder = codecs.getincrementaldecoder("utf-8")(
            "replace"
        )  # the end may be half a character
        overwritten = self._after_return or text != self._rest
        return Line(decoder.decode(text), is_overwritten=overwritten, is_finished=False)

    def end(self) -> Iterator[Line]:
        """Yield the last line, if it is not empty."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        if rest:
            yield from _lines(rest, b"\n")


def _lines(data: bytes, end: bytes) -> Iterator[Line]:
    is_overwritten = end == b"\r"
    if data or not is_overwritten:  # a progress bar begins with \r, after an empty line
        yield Line(data.decode(errors="replace"), is_overwritten)
