"""Lines at the bottom of a terminal that are drawn again and again."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

_CLEAR = "\r\x1b[K"
_CLEAR_ABOVE = "\x1b[A\x1b[K"


def line_width() -> int:
    """Return the largest length of a line that is drawn; one that wraps could not be cleared."""
    return shutil.get_terminal_size().columns - 1


def clearing(count: int) -> str:
    """Return what clears so many lines, at the last of which the cursor is."""
    return _CLEAR * (count > 0) + _CLEAR_ABOVE * (count - 1)


@dataclass(slots=True)
class LiveLines:
    """Draws lines over those that it has drawn before.

    Attributes:
        out: the terminal.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _drawn: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The largest length of a line."""
        return line_width()

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines; those that the terminal has no room for are counted in the last."""
        rows = max(1, shutil.get_terminal_size().lines - 1)
        shown = tuple(line[: self.width] for line in fitting(lines, rows))
        if shown != self._drawn:
            self.out.write(clearing(len(self._drawn)) + "\n".join(shown))
            self.out.flush()
            self._drawn = shown

    def close(self) -> None:
        """Leave the last lines, and go on below them."""
        if self._drawn:
            self.out.write("\n")
            self.out.flush()
            self._drawn = ()


def fitting(lines: Sequence[str], rows: int) -> list[str]:
    """Return the lines that fit in a number of rows.

    >>> fitting(["a", "b", "c"], 2)
    ['a', '2 more lines']
    """
    if len(lines) <= rows:
        return [*lines]
    return [*lines[: rows - 1], f"{len(lines) - rows + 1} more lines"]
