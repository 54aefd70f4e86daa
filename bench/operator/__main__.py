"""Measure the operator next to others that make a job's pods, on a real control plane.

    python -m bench.operator                all lines; writes docs/performance-operator.md
    python -m bench.operator burst idle     two themes; the page's other lines stay
    python -m bench.operator burst-1x512    one line
    python -m bench.operator --quick        small sizes, one round: to see that all works
    python -m bench.operator --render       the page again, from the results that are there

Ways: this operator; Indexed Jobs of the same pods, alone and each with the headless Service that
ranks need; PyTorchJobs of Kubeflow's training-operator as shipped; and the pods' own POSTs, which
are the floor. The ways take turns, each turn on a control plane of its own (etcd, API server,
controllers, scheduler, kwok's nodes), which ends with it. What the control plane is made of is
built from source, once, if it is not at hand, and so is the training-operator; that takes
minutes. After each line the page is written: what was measured stays if the run is cut short, and
the lines that are missing can be named in another one. Close everything else first: what else
runs is measured, too. Why a goal is missed stands in bench/operator/reasons.py.
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
    """Measure, write the page line by line, and print the goals' rows."""
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
    """Write what there is until now, if it is to be written."""
    if folder is not None:
        ended = dataclasses.replace(run, load_after=load())
        say(f"wrote {store.write(folder, Made(ended, versions(), round(seconds)), results)}")


def summarise(lines: Sequence[Line], results: Sequence[Result], failures: Sequence[str]) -> None:
    """Print the goals' rows; end with 1 if anything has failed."""
    for goal in GOALS:
        if goal.line in {line.name for line in lines}:
            print(goal_row(goal, results))
    if failures:
        sys.exit("\n".join(["what has failed:", *failures]))


def parser() -> argparse.ArgumentParser:
    """The flags."""
    about = map(_about, LINES)
    return command.parser("python -m bench.operator", __doc__, about, THEMES, ROUNDS)


def _about(line: Line) -> str:
    ways = ", ".join(way.name for way in line.ways)
    once = " (once)" if line.rounds == 1 else ""
    return f"  {line.name:13} {size_text(line.size):10} {ways}{once}"


def chosen(names: Sequence[str]) -> list[Line]:
    """The lines that are named, each by itself or by its theme; all, if none is."""
    return command.chosen(names, LINES, parser())


def at_hand(lines: Sequence[Line], failures: list[str]) -> Sequence[Line]:
    """The lines, without the training-operator where it cannot be had."""
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
    """Measure a line, the ways taking turns; what fails is told, and the others go on."""
    size = line.quick if is_quick else line.size
    results = {way.name: Result(line.name, way.name, size, []) for way in line.ways}
    for way in order(line, rounds):
        what = f"{line.name}, {size_text(size)}, {way.name}"
        began = time.monotonic()
        try:
            with bed.fresh() as made:
                found = asyncio.run(line.measure(made, way, size))
        except Exception as error:  # noqa: BLE001  # whatever it is, the other turns are as good
            notes = "\n".join(getattr(error, "__notes__", ()))
            failures.append(f"{what}: {_first(error)!r}\n{notes}".strip())
            say(f"FAILED {failures[-1]}")
        else:
            results[way.name].facts.extend(found)
            say(f"{time.monotonic() - began:4.0f} s  {what}: {_told(found)}")
    return [result for result in results.values() if result.facts]


def order(line: Line, rounds: int) -> Iterator[Way]:
    """The turns: there, and in the next round back."""
    for number in range(min(rounds, line.rounds)):
        ways = [way for way in line.ways if number < way.rounds]
        yield from ways if number % 2 == 0 else reversed(ways)


def _first(error: BaseException) -> BaseException:
    """What has gone wrong, out of the groups that tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(found: Sequence[Facts]) -> str:
    facts = found[0]
    return ", ".join(f"{FACTS[name][0]} {quantity(n, FACTS[name][1])}" for name, n in facts.items())


def versions() -> dict[str, str]:
    """Whose programs are measured."""
    kubernetes = bed.version(binaries.SOURCES / "kube", "k8s.io/kubernetes")
    theirs = bed.version(training.SOURCES / training.NAME, training.MODULE)
    return {"kubernetes": kubernetes, "training_operator": theirs}


if __name__ == "__main__":
    main()
