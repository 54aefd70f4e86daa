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

from bench import command, store
from bench.case import Case, Result
from bench.cases import CASES, THEMES
from bench.command import say
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
    about = (f"  {case.name:24} {case.what}" for case in CASES)
    return command.parser("python -m bench", __doc__, about, THEMES, ROUNDS)


def chosen(names: Sequence[str]) -> list[Case]:
    """The cases that are named, each by itself or by its theme; all, if none is."""
    return command.chosen(names, CASES, parser())


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


if __name__ == "__main__":
    main()
