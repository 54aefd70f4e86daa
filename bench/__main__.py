"""Compare the runtime with Accelerate, and with the lowest cost possible on this machine.

    python -m bench                         all cases; writes docs/performance.md and its plots
    python -m bench order resume            two themes; other results on the page are kept
    python -m bench scheduler-lambda        one case
    python -m bench --quick                 small sizes, one round: checks that everything works
    python -m bench gpu                     the theme that needs a GPU; others run on the CPU
    python -m bench --render                writes the page again, from the stored results
    python -m bench --add DIR               the same with the results of a run on another machine

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

import torch

from bench import command, store
from bench.case import Case, Result
from bench.cases import CASES, THEMES
from bench.command import say
from bench.machine import Run, load
from bench.measure import Different, Measurer
from bench.page import summary_row
from bench.world import Failed

ROUNDS = 5
GPU = "gpu"  # the theme of the cases that need a GPU
DOCS = Path(__file__).parents[1] / "docs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases, print a row for each goal, and write the page."""
    options = parser().parse_args(arguments)
    folder = options.output or (None if options.quick else DOCS)
    if options.render:
        say(f"wrote {store.write(folder or DOCS, *store.read(folder or DOCS))}")
        return
    if options.add is not None:
        say(f"wrote {store.add(folder or DOCS, options.add)}")
        return
    cases = chosen(options.names)
    rounds = 1 if options.quick else options.rounds
    run = Run.begun(" ".join(["python -m bench", *sys.argv[1:]]), rounds)
    results: list[Result] = []
    try:
        for result in measured(cases, rounds, is_quick=options.quick):
            results.append(result)
            if folder is not None:  # each: a run may be killed
                made = store.write(folder, dataclasses.replace(run, load_after=load()), results)
                say(f"wrote {made}")
    finally:
        for case in cases:
            print(summary_row(case, results))
    missing = {case.name for case in cases} - {result.case for result in results}
    if missing:
        raise SystemExit(f"not measured: {', '.join(sorted(missing))}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    about = (f"  {case.name:24} {case.what}" for case in CASES)
    made = command.parser("python -m bench", __doc__, about, THEMES, ROUNDS)
    text = "measure nothing; add the results in DIR, the --output of another machine's run"
    made.add_argument("--add", type=Path, metavar="DIR", help=text)
    return made


def chosen(names: Sequence[str]) -> list[Case]:
    """Return the cases with these names or themes; without names all that can run here."""
    found = command.chosen(names, CASES, parser())
    if torch.cuda.is_available():
        return found
    if names and any(case.theme == GPU for case in found):
        parser().error("the theme gpu needs a GPU, and torch finds none")
    return [case for case in found if case.theme != GPU]


def measured(cases: Sequence[Case], rounds: int, *, is_quick: bool) -> Iterator[Result]:
    """Measure cases at all of their sizes, or at the quick sizes."""
    began = time.monotonic()

    def report(text: str) -> None:
        say(f"{time.monotonic() - began:4.0f} s  {text}")

    for _, theme in itertools.groupby(cases, key=lambda case: case.theme):
        with Measurer(rounds, report) as measurer:
            for case in theme:
                for size in case.quick if is_quick else case.sizes:
                    try:
                        yield measurer.measure(case, size)
                    except (Different, Failed) as error:  # the other cases go on
                        report(f"{case.name} has failed: {error}")
                        measurer.restart()


if __name__ == "__main__":
    main()
