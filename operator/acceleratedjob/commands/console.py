"""Prints the output of the replicas above live lines; without a terminal, prints lines only."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

from acceleratedjob.api.names import View
from acceleratedjob.commands import screen
from acceleratedjob.lines import Line
from acceleratedjob.local.kubelet import replica_index
from acceleratedjob.terminal import lines

MAX_BAR = 4096  # characters of a progress bar that are looked at
MAX_BARS = 8  # lines


@dataclass
class Console:
    """Prints lines above the live lines: a progress bar of each replica, and a status line.

    Attributes:
        out: where the lines are printed.
        prompts: whether a person answers the only replica, so that the beginning of its line is
            shown before the line ends.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    prompts: bool = False
    _status: str = ""
    _bars: dict[int, str] = field(default_factory=dict)  # the last bar, by replica index
    _drawn: Live | None = None  # the live lines
    _begun: str = ""  # what is printed of the line that has not ended

    @cached_property
    def _screen(self) -> RichConsole:
        return screen.console(self.out)

    @cached_property
    def _has_color(self) -> bool:
        return screen.has_color(self.out)

    @property
    def is_live(self) -> bool:
        """Whether there are live lines."""
        return screen.is_live(self.out)

    def pod(self, pod: View, written: Sequence[Line]) -> None:
        """Print lines of the output of a replica; its progress bar replaces the one before."""
        index = replica_index(pod)
        self._print("".join(self._taken(index, one) for one in written))

    def _taken(self, index: int, line: Line) -> str:
        """Return what to print of a line, and keep a bar or a beginning."""
        if line.is_overwritten and self.is_live:
            self._bars[index] = line.text[:MAX_BAR]
            return self._unprinted("")
        if not line.is_finished:
            return self._beginning(index, line) if self.prompts and not line.is_overwritten else ""
        self._bars.pop(index, None)  # a progress bar ends with a line that stays
        end = screen.RESET if self.out.isatty() and "\x1b" in line.text else ""
        return f"{self._unprinted(self._prefixed(index, line.text))}{end}\n"

    def _beginning(self, index: int, line: Line) -> str:
        begun = self._prefixed(index, line.text)
        new = self._unprinted(begun)
        self._begun = begun
        return new

    def _unprinted(self, line: str) -> str:
        """Return what to print of a line of which something may be printed; end another line."""
        printed, self._begun = self._begun, ""
        return line[len(printed) :] if line.startswith(printed) else f"\n{line}"

    def _prefixed(self, index: int, text: str) -> str:
        """Return a line with its prefix; on a terminal, its only control codes are colors."""
        name = f"[{index}]"
        if not self.out.isatty():
            return f"{name} {text}"
        prefix = f"{screen.color(index)}{name}{screen.RESET}" if self._has_color else name
        return f"{prefix} {screen.colored(text)}"

    def tell(self, text: str) -> None:
        """Print a line of our own, with control characters escaped."""
        self._print(
            self._unprinted("") + "".join(f"{one}\n" for one in lines(f"-- {text}", "   | "))
        )

    def live(self, text: str) -> None:
        """Replace the status line; an empty text removes it."""
        if self.is_live and text != self._status:
            self._status = text
            self._print("")

    def close(self) -> None:
        """Remove the live lines."""
        self._status = ""
        self._bars.clear()
        self._print("")

    @property
    def width(self) -> int:
        """The largest length of a live line."""
        return self._screen.width

    def _print(self, text: str) -> None:
        """Print a text unchanged, and the live lines below it, unless a line has not ended."""
        has_below = not self._begun and bool(self._bars or self._status)
        if self._drawn is not None and not has_below:
            self._drawn.stop()
            self._drawn = None
        if self._drawn is None and has_below:  # rich cannot start one again
            self._drawn = screen.live(self._screen, self, transient=True)
            self._drawn.start()
        if text:
            self._screen.print(Segments([Segment(text)]), end="", soft_wrap=True)
        elif self._drawn is not None:
            self._drawn.refresh()

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        """Yield the live lines, whenever rich draws them."""
        yield from self._below()

    def _below(self) -> list[Text]:
        """Return the live lines."""
        bars = [self._bar(index, text) for index, text in sorted(self._bars.items())]
        more = len(bars) - MAX_BARS
        rest = [Text(f"{more} more progress bars")] if more > 0 else []
        status = [screen.styled(self._status)] if self._status else []
        return [*bars[:MAX_BARS], *rest, *status]

    def _bar(self, index: int, text: str) -> Text:
        prefix = Text(f"[{index}]", screen.COLORS[index % len(screen.COLORS)])
        bar = Text.from_ansi(text)
        return Text.assemble(prefix, " ", bar, no_wrap=True, overflow="crop")
