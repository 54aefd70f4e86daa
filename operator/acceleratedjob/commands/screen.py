"""What rich draws: colors, widths, tables, and lines at the bottom of a terminal."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich.color import Color
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from acceleratedjob.commands.table import GAP

COLORS = ("cyan", "yellow", "magenta", "green", "blue", "red")  # of the replicas, in turn
_PHASES = {
    "Running": "green",
    "Succeeded": "green",
    "Failed": "bold red",
    "Restarting": "yellow",
    "Suspended": "dim",
    "Deleted": "dim",
}
RESET = "\x1b[0m"
_COLOR = r"\x1b\[[0-9;:]*m"
_CODE = re.compile(
    rf"({_COLOR})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # a control sequence
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # a title, a link or another string
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
_UNLIMITED = 10_000  # columns; in a pipe, nothing is cut


class _Console(RichConsole):
    """A console of rich that leaves the end of a pipe to its caller; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled."""
        raise  # noqa: PLE0704  # rich calls it in an except block


def console(out: TextIO, env: Mapping[str, str] = os.environ, *, cuts: bool = True) -> RichConsole:
    """Return a console of rich: colors and width are those of the terminal.

    Rich respects NO_COLOR, TERM and COLUMNS. In a pipe there are neither colors nor a width.

    Args:
        out: where it prints.
        env: the environment.
        cuts: whether the width of a terminal counts.
    """
    return _Console(
        file=out,
        force_terminal=out.isatty(),
        width=None if cuts and out.isatty() else _UNLIMITED,
        highlight=False,
        markup=False,
        emoji=False,
        _environ=env,
    )


def is_live(out: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be redrawn: on a terminal that somebody looks at."""
    return out.isatty() and not env.get("CI") and env.get("TERM") != "dumb"


def has_color(out: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether lines are colored: on a terminal, unless NO_COLOR is set (see no-color.org)."""
    made = console(out, env)
    return made.color_system is not None and not made.no_color


def color(index: int) -> str:
    r"""Return the control code that begins the color of a replica; RESET ends it.

    >>> color(0), color(7)
    ('\x1b[36m', '\x1b[33m')
    """
    (code,) = Color.parse(COLORS[index % len(COLORS)]).get_ansi_codes()
    return f"\x1b[{code}m"


def colored(text: str) -> str:
    r"""Return a line in which only colors are left of all control codes.

    >>> colored("a\x1b[31mb\x1b[2J\x1b]0;title\x07c\rd\te")
    'a\x1b[31mbcd\te'
    """
    return _CODE.sub(lambda found: found[1] or "", text)


def live(shown: RichConsole, lines: RenderableType, *, transient: bool) -> Live:
    """Return lines that are redrawn below what is printed, without a thread.

    Args:
        shown: the console.
        lines: what is drawn.
        transient: whether the lines are removed at the end.
    """
    return Live(
        lines,
        console=shown,
        auto_refresh=False,
        transient=transient,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def styled(line: str) -> Text:
    """Return the line of a job as rich draws it: on one row, with the bar and problems colored."""
    text = Text(line, no_wrap=True, overflow="ellipsis")
    for phase, style in _PHASES.items():
        text.highlight_regex(rf"(?<=  ){phase}(?=  |$)", style)
    text.highlight_regex(r"\[#+", "green")
    text.highlight_regex(r"^  [A-Z]\w+:|(Hanging|Straggling|Diverged)\S*$", "yellow")
    return text


def terminal_width(out: TextIO) -> int:
    """Return the number of columns of a terminal; in a pipe, one that no line exceeds."""
    return console(out).width


def print_table(rows: Sequence[Iterable[str]], out: TextIO) -> None:
    """Print rows of cells, of which the first one is the header; no cell is cut."""
    header, *others = rows
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in header:
        made.add_column(name, no_wrap=True)
    for row in others:
        made.add_row(*(Text(cell, _PHASES.get(cell, "")) for cell in row))
    shown = console(out, cuts=False)
    with shown.capture() as captured:
        shown.print(made)
    out.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    out.flush()
