"""Measure the runtime next to Accelerate and to the least that this machine allows.

    python -m bench                         all lines; writes docs/performance.md and its plots
    python -m bench order resume            two themes; the page's other lines stay
    python -m bench scheduler-lambda        one line
    python -m bench --quick                 small sizes, one round: to see that all works
    python -m bench --render                the page again, from the results that are there

Each line is proved to compute the same on all sides before it is timed. The sides take turns, each
in processes of its own, which end with this command. Close everything else first: what else runs
is measured, too. What is asked of each line stands beside its programs, in bench/<theme>.py; why a
goal is missed, in bench/reasons.py. The operator has a benchmark of its own: bench.operator.
"""

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import store
from bench.case import Case, Result
from bench.cases import CASES, THEMES
from bench.machine import Run, load
from bench.measure import Measurer
from bench.page import summary_row

ROUNDS = 5
DOCS = Path(__file__).parents[1] / "docs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the goals' rows, and write the page."""
    options = parser().parse_args(arguments)
    folder = options.output or (None if options.quick else DOCS)
    if options.render:
        say(f"wrote {store.write(folder or DOCS, *store.read(folder or DOCS))}")
        return
    cases = chosen(options.names)
    rounds = 1 if options.quick else options.rounds
    run = Run.begun(" ".join(["python -m bench", *sys.argv[1:]]), rounds)
    results: list[Result] = []
    try:
        results.extend(measured(cases, rounds, is_quick=options.quick))
    finally:  # what is there is kept, also if the run is cut short
        for case in cases:
            print(summary_row(case, results))
        if folder is not None and results:
            run = dataclasses.replace(run, load_after=load())
            say(f"wrote {store.write(folder, run, results)}")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Themes: "
        + ", ".join(THEMES)
        + "\nLines:\n"
        + "\n".join(f"  {case.name:24} {case.what}" for case in CASES),
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="themes or lines (default: all)")
    made.add_argument("--quick", action="store_true", help="small sizes, one round, no page")
    text = "of each line and size, at most (default: %(default)s)"
    made.add_argument("--rounds", type=int, default=ROUNDS, help=text)
    text = "where performance.md and performance/ go (default: docs; with --quick: nowhere)"
    made.add_argument("--output", type=Path, metavar="DIR", help=text)
    made.add_argument("--render", action="store_true", help="measure nothing; write the page again")
    return made


def chosen(names: Sequence[str]) -> list[Case]:
    """The cases that are named, each by itself or by its theme; all, if none is."""
    known = {*THEMES, *(case.name for case in CASES)}
    unknown = [name for name in names if name not in known]
    if unknown:
        parser().error(f"{unknown[0]} must be a theme or a line; see --help")
    return [case for case in CASES if not names or case.name in names or case.theme in names]


def measured(cases: Sequence[Case], rounds: int, *, is_quick: bool) -> Iterator[Result]:
    """Measure cases at all their sizes, or at the quick ones."""
    began = time.monotonic()

    def report(text: str) -> None:
        say(f"{time.monotonic() - began:4.0f} s  {text}")

    for _, theme in itertools.groupby(cases, key=lambda case: case.theme):
        with Measurer(rounds, report) as measurer:
            for case in theme:
                for size in case.quick if is_quick else case.sizes:
                    yield measurer.measure(case, size)


def say(text: str) -> None:
    """Tell of progress."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
