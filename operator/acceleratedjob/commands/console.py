"""Prints lines above a live status line; without a terminal, prints lines only."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from acceleratedjob.api.names import View
from acceleratedjob.commands.live import clearing, line_width
from acceleratedjob.local.kubelet import replica_index
from acceleratedjob.local.lines import Line
from acceleratedjob.terminal import lines

_COLOURS = (36, 33, 35, 32, 34, 31)  # ANSI color codes, which the replicas use in turn


def has_colour(out: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether lines are colored: on a terminal, unless NO_COLOR is set (see no-color.org)."""
    return out.isatty() and not env.get("NO_COLOR")


def has_live_lines(out: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be redrawn: on a terminal that somebody looks at."""
    return out.isatty() and not env.get("CI") and env.get("TERM") != "dumb"


@dataclass(slots=True)
class Console:
    """Prints lines above the live lines: the progress bar of a replica, and a status line.

    Attributes:
        out: where the lines are printed.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    _status: str = ""
    _bar: str = ""  # the last line of a replica that is to be overwritten
    _bar_of: int | None = None  # this replica
    _drawn: int = 0  # the number of live lines on the terminal

    def pod(self, pod: View, line: Line) -> None:
        """Print a line of the output of a replica; a progress bar replaces the one before."""
        index = replica_index(pod)
        name = f"[{index}]"
        colour = _COLOURS[index % len(_COLOURS)]
        prefix = f"\x1b[{colour}m{name}\x1b[0m" if has_colour(self.out) else name
        if line.is_overwritten and has_live_lines(self.out):
            self._bar = f"{prefix} {line.text[: self.width - len(name) - 1]}"
            self._bar_of = index
            self._draw()
        else:
            # A progress bar ends with a line that stays.
            self._bar = "" if index == self._bar_of else self._bar
            self._draw(f"{prefix} {line.text}")

    def tell(self, text: str) -> None:
        """Print a line of our own, with control characters escaped."""
        for line in lines(f"-- {text}", "   | "):
            self._draw(line)

    def live(self, text: str) -> None:
        """Replace the status line; an empty text removes it."""
        if has_live_lines(self.out) and text != self._status:
            self._status = text
            self._draw()

    def close(self) -> None:
        """Remove the live lines."""
        self._status = self._bar = ""
        if self._drawn:
            self._draw()

    @property
    def width(self) -> int:
        """The largest length of a live line."""
        return line_width()

    def _draw(self, *above: str) -> None:
        """Print lines, and the live lines below them."""
        clear = clearing(self._drawn)
        live = [text for text in (self._bar, self._status[: self.width]) if text]
        self._drawn = len(live)
        self.out.write(clear + "".join(f"{line}\n" for line in above) + "\n".join(live))
        self.out.flush()
