"""Compare the operator with other controllers that create the pods of a job.

    python -m bench.operator                all cases; writes docs/performance-operator.md
    python -m bench.operator burst idle     two themes; other results on the page are kept
    python -m bench.operator burst-1x512    one case
    python -m bench.operator --quick        small sizes, one round: checks that everything works
    python -m bench.operator --render       writes the page again, from the stored results

The ways to create pods are: this operator; Indexed Jobs with the same pods, without and with the
headless Service that ranks need; PyTorchJobs of Kubeflow's training-operator with its default
settings; and direct POST requests for the pods, which are the floor. The ways take turns. Each turn
has a new control plane (etcd, API server, controllers, scheduler, nodes of kwok). Programs of the
control plane and the training-operator that are missing are built from source once, which takes
minutes. The page is written after each case, so an interrupted run keeps its results, and another
run can measure the other cases by name. Close other programs first, because they affect the times.
The reasons for missed goals are in bench/operator/reasons.py.
"""

import argparse
import asyncio
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import command
from bench.command import say
from bench.machine import Run, load
from bench.operator import bed, store, training
from bench.operator.lines import FACTS, GOALS, LINES, THEMES, Line
from bench.operator.measures import Facts
from bench.operator.page import goal_row, size_text
from bench.operator.results import Made, Result
from bench.operator.ways import Way
from bench.quantity import quantity
from tests.cluster.testbed import beds, binaries
from tests.cluster.testbed.processes import TestbedFailed

ROUNDS = 2
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases, write the page after each one, and print a row for each goal."""
    options = parser().parse_args(arguments)
    folder = options.output or (None if options.quick else DOCS)
    if options.render:
        say(f"wrote {store.write(folder or DOCS, *store.read(folder or DOCS))}")
        return
    rounds = 1 if options.quick else options.rounds
    run = Run.begun(" ".join(["python -m bench.operator", *sys.argv[1:]]), rounds)
    beds.prepare(report=say)
    failures: list[str] = []
    lines = at_hand(chosen(options.names), failures)
    results: list[Result] = []
    began = time.monotonic()
    for line in lines:
        results += measured(line, rounds, failures, is_quick=options.quick)
        keep(folder, run, time.monotonic() - began, results)
    summarise(lines, results, failures)


def keep(folder: Path | None, run: Run, seconds: float, results: Sequence[Result]) -> None:
    """Write the results so far, if there is a folder."""
    if folder is not None:
        ended = dataclasses.replace(run, load_after=load())
        say(f"wrote {store.write(folder, Made(ended, versions(), round(seconds)), results)}")


def summarise(lines: Sequence[Line], results: Sequence[Result], failures: Sequence[str]) -> None:
    """Print a row for each goal; exit with code 1 if a measurement has failed."""
    for goal in GOALS:
        if goal.line in {line.name for line in lines}:
            print(goal_row(goal, results))
    if failures:
        sys.exit("\n".join(["what has failed:", *failures]))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    about = map(_about, LINES)
    return command.parser("python -m bench.operator", __doc__, about, THEMES, ROUNDS)


def _about(line: Line) -> str:
    ways = ", ".join(way.name for way in line.ways)
    once = " (once)" if line.rounds == 1 else ""
    return f"  {line.name:13} {size_text(line.size):10} {ways}{once}"


def chosen(names: Sequence[str]) -> list[Line]:
    """Return the cases with these names or themes; all cases without names."""
    return command.chosen(names, LINES, parser())


def at_hand(lines: Sequence[Line], failures: list[str]) -> Sequence[Line]:
    """Return the cases, without the training-operator if it cannot be built."""
    if not any(training.TRAINING_OPERATOR in line.ways for line in lines):
        return lines
    try:
        training.program(say)
        training.definition()
    except TestbedFailed as error:
        failures.append(f"no {training.NAME}: {error}")
        return [line.without(training.TRAINING_OPERATOR) for line in lines]
    return lines


def measured(line: Line, rounds: int, failures: list[str], *, is_quick: bool) -> list[Result]:
    """Measure a case, the ways in turns; failures are recorded, and the other turns continue."""
    size = line.quick if is_quick else line.size
    results = {way.name: Result(line.name, way.name, size, []) for way in line.ways}
    for way in order(line, rounds):
        what = f"{line.name}, {size_text(size)}, {way.name}"
        began = time.monotonic()
        try:
            with bed.fresh() as made:
                found = asyncio.run(line.measure(made, way, size))
        except Exception as error:  # noqa: BLE001  # the other turns are not affected
            notes = "\n".join(getattr(error, "__notes__", ()))
            failures.append(f"{what}: {_first(error)!r}\n{notes}".strip())
            say(f"FAILED {failures[-1]}")
        else:
            results[way.name].facts.extend(found)
            say(f"{time.monotonic() - began:4.0f} s  {what}: {_told(found)}")
    return [result for result in results.values() if result.facts]


def order(line: Line, rounds: int) -> Iterator[Way]:
    """Yield the ways in turn, in alternating order."""
    for number in range(min(rounds, line.rounds)):
        ways = [way for way in line.ways if number < way.rounds]
        yield from ways if number % 2 == 0 else reversed(ways)


def _first(error: BaseException) -> BaseException:
    """Return the first error of nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(found: Sequence[Facts]) -> str:
    facts = found[0]
    return ", ".join(f"{FACTS[name][0]} {quantity(n, FACTS[name][1])}" for name, n in facts.items())


def versions() -> dict[str, str]:
    """Return the versions of the measured programs."""
    kubernetes = bed.version(binaries.SOURCES / "kube", "k8s.io/kubernetes")
    theirs = bed.version(training.SOURCES / training.NAME, training.MODULE)
    return {"kubernetes": kubernetes, "training_operator": theirs}


if __name__ == "__main__":
    main()
