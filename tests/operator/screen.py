"""A terminal: what its screen shows after what was written to it."""

import io
import re

_TOKEN = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


class Tty(io.StringIO):
    """An output that is a terminal."""

    def isatty(self) -> bool:
        return True


class Screen:
    """The lines of a terminal that knows what our console sends, and no other sequence.

    >>> screen = Screen()
    >>> screen.feed("one" + chr(10) + "two" + chr(13) + chr(27) + "[Kthree")
    >>> screen.lines
    ['one', 'three']
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        """The lines, without empty ones at the end."""
        return "\n".join(self._lines).rstrip("\n").split("\n")

    def feed(self, text: str) -> None:
        """Show a text."""
        assert _TOKEN.sub("", text) == ""
        for token in _TOKEN.finditer(text):
            self._show(token)

    def _show(self, token: re.Match[str]) -> None:
        if token[0] == "\r":
            self._column = 0
        elif token[0] == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self._lines):
                self._lines.append("")
        elif token[2] is None:
            line = self._lines[self._row].ljust(self._column)
            end = self._column + len(token[0])
            self._lines[self._row] = line[: self._column] + token[0] + line[end:]
            self._column = end
        else:
            self._obey(token[2])

    def _obey(self, letter: str) -> None:
        assert letter in "KAmhl"  # h and l show and hide the cursor
        if letter == "K":
            self._lines[self._row] = ""  # the console clears from the first column
        elif letter == "A":
            self._row -= 1
            assert self._row >= 0
