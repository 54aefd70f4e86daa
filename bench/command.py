"""The command line of a benchmark: its flags, the selection of cases, and its output."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar


class Named(Protocol):
    """A case that can be selected by its name or by its theme."""

    @property
    def name(self) -> str:
        """The name of the case."""
        ...

    @property
    def theme(self) -> str:
        """The theme of the case."""
        ...


Line = TypeVar("Line", bound=Named)


def parser(
    prog: str, description: str | None, about: Iterable[str], themes: Iterable[str], rounds: int
) -> argparse.ArgumentParser:
    """Return the parser of the flags.

    Args:
        prog: the command, for the help.
        description: the description, which is shown unchanged.
        about: a sentence for each case.
        themes: the themes that select cases.
        rounds: the default number of rounds.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Themes: " + ", ".join(themes) + "\nCases:\n" + "\n".join(about),
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="themes or cases (default: all)")
    made.add_argument("--quick", action="store_true", help="small sizes, one round, no page")
    text = "maximum rounds of each case and size (default: %(default)s)"
    made.add_argument("--rounds", type=int, default=rounds, help=text)
    text = "folder for the page and performance/ (default: docs; none with --quick)"
    made.add_argument("--output", type=Path, metavar="DIR", help=text)
    made.add_argument("--render", action="store_true", help="measure nothing; write the page again")
    return made


def chosen(
    names: Sequence[str], lines: Iterable[Line], flags: argparse.ArgumentParser
) -> list[Line]:
    """Return the cases with these names or themes; all cases without names."""
    every = list(lines)
    known = {name for line in every for name in (line.name, line.theme)}
    unknown = [name for name in names if name not in known]
    if unknown:
        flags.error(f"{unknown[0]} must be a theme or a case; see --help")
    return [line for line in every if not names or line.name in names or line.theme in names]


def say(text: str) -> None:
    """Print a message about the progress."""
    sys.stderr.write(f"{text}\n")
