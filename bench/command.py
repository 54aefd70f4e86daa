"""The command line of a benchmark: its flags, the lines that are named, and what it says."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar


class Named(Protocol):
    """What may be asked for by its own name, or by its theme's."""

    @property
    def name(self) -> str:
        """Its own."""
        ...

    @property
    def theme(self) -> str:
        """What it shares with others of its kind."""
        ...


Line = TypeVar("Line", bound=Named)


def parser(
    prog: str, description: str | None, about: Iterable[str], themes: Iterable[str], rounds: int
) -> argparse.ArgumentParser:
    """The flags.

    Args:
        prog: as it is called.
        description: shown as it is.
        about: a sentence for each line.
        themes: by which lines may be named as well.
        rounds: the default number.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Themes: " + ", ".join(themes) + "\nLines:\n" + "\n".join(about),
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="themes or lines (default: all)")
    made.add_argument("--quick", action="store_true", help="small sizes, one round, no page")
    text = "of each line and size, at most (default: %(default)s)"
    made.add_argument("--rounds", type=int, default=rounds, help=text)
    text = "where the page and performance/ go (default: docs; with --quick: nowhere)"
    made.add_argument("--output", type=Path, metavar="DIR", help=text)
    made.add_argument("--render", action="store_true", help="measure nothing; write the page again")
    return made


def chosen(
    names: Sequence[str], lines: Iterable[Line], flags: argparse.ArgumentParser
) -> list[Line]:
    """The lines that are named, each by itself or by its theme; all, if none is."""
    every = list(lines)
    known = {name for line in every for name in (line.name, line.theme)}
    unknown = [name for name in names if name not in known]
    if unknown:
        flags.error(f"{unknown[0]} must be a theme or a line; see --help")
    return [line for line in every if not names or line.name in names or line.theme in names]


def say(text: str) -> None:
    """Tell of progress."""
    sys.stderr.write(f"{text}\n")
