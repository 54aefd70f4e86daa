"""Compare the runtime with Accelerate, and with the lowest cost possible on this machine.

    python -m bench                         all cases; writes docs/performance.md and its plots
    python -m bench order resume            two themes; other results on the page are kept
    python -m bench scheduler-lambda        one case
    python -m bench --quick                 small sizes, one round: checks that everything works
    python -m bench --render                writes the page again, from the stored results

Before a case is timed, all sides must compute the same result. The sides take turns, each in its
own processes, which end with this command. Close other programs first, because they affect the
times. The goal of each case is defined next to its programs, in bench/<theme>.py; the reasons for
missed goals are in bench/reasons.py. bench.operator is the benchmark of the operator.
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
    """Measure the cases, print a row for each goal, and write the page."""
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
    finally:  # keep the results of an interrupted run
        for case in cases:
            print(summary_row(case, results))
        if folder is not None and results:
            run = dataclasses.replace(run, load_after=load())
            say(f"wrote {store.write(folder, run, results)}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    about = (f"  {case.name:24} {case.what}" for case in CASES)
    return command.parser("python -m bench", __doc__, about, THEMES, ROUNDS)


def chosen(names: Sequence[str]) -> list[Case]:
    """Return the cases with these names or themes; all cases without names."""
    return command.chosen(names, CASES, parser())


def measured(cases: Sequence[Case], rounds: int, *, is_quick: bool) -> Iterator[Result]:
    """Measure cases at all of their sizes, or at the quick sizes."""
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
