"""Measure how much of the time is kept with faults: here, and with other libraries.

    python -m bench.goodput smoke                         one seed, short; writes no page
    python -m bench.goodput run                           everything; takes a night
    python -m bench.goodput run --mtbf 60 --seeds 0 1 2 --systems ours accelerate
    python -m bench.goodput render                        writes the page, from the stored results

A run writes docs/performance-goodput.md and its results after each training, so that one that is
interrupted goes on where it was; --again measures anew. Trainings without faults come first, whose
bits and overhead are compared. Before and after each training the raw loop runs for a short time:
the goodput refers to it.
The packages of other libraries are installed once, in the user's cache. Close other programs first,
because they affect the times; the load average before each training is stored with its result.
"""

import argparse
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.command import say
from bench.goodput import store
from bench.goodput.cell import Cell, Result, measured
from bench.goodput.outer import Broken
from bench.goodput.pace import Pace
from bench.goodput.page import MTBFS
from bench.goodput.peers import CannotInstall
from bench.goodput.store import Stored
from bench.goodput.systems.table import BY_NAME, RAW, chosen
from bench.goodput.workloads import WORKLOADS
from bench.machine import Run, load

DOCS = Path(__file__).parents[2] / "docs"
SMOKE = {"mtbf": [15.0], "seeds": [0], "seconds": 32.0, "workloads": ["step"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    options = parser().parse_args(arguments)
    if options.command == "render":
        say(f"wrote {store.write(options.output, store.read(options.output))}")
        return
    if options.command == "smoke":
        with tempfile.TemporaryDirectory(prefix="goodput-") as folder:
            run(options, Path(folder))
        return
    run(options, options.output)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    made = argparse.ArgumentParser(
        "python -m bench.goodput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Systems: " + ", ".join(BY_NAME),
    )
    commands = made.add_subparsers(dest="command", required=True)
    for name in ("smoke", "run", "render"):
        one = commands.add_parser(name)
        text = "folder of the page and performance/ (default: docs)"
        one.add_argument("--output", type=Path, metavar="DIR", default=DOCS, help=text)
        if name == "render":
            continue
        text = "systems, or the first words of their names (default: all)"
        one.add_argument("--systems", nargs="+", default=list(BY_NAME), help=text)
        text = "mean times between two faults, in seconds"
        one.add_argument("--mtbf", nargs="+", type=float, default=list(MTBFS), help=text)
        one.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
        text = "duration of the work without faults (default: %(default)s)"
        one.add_argument("--seconds", type=float, default=180.0, help=text)
        one.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
        one.add_argument("--again", action="store_true", help="measure what is stored anew")
        one.add_argument("--keep", type=Path, metavar="DIR", help="keep ledgers and logs there")
        one.set_defaults(**(SMOKE if name == "smoke" else {}))
    return made


def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure what is asked for and not stored, and write the page after each training.

    Args:
        options: the parsed flags.
        folder: the folder of the page.
    """
    stored = store.read(folder)
    command = " ".join(["python -m bench.goodput", *sys.argv[1:]])
    stored = dataclasses.replace(stored, run=Run.begun(command, len(options.seeds)))
    asked, pace = list(cells(options)), Pace()
    for number, cell in enumerate(asked):
        if stored.find(cell) is not None and not options.again:
            continue
        if cell.system in stored.missing:
            continue
        say(f"{number + 1} of {len(asked)}: {_told(cell)}, load {load()}")
        stored = _with(stored, cell, pace, options.keep)
        store.write(folder, stored)
    for one in (found for cell in asked if (found := stored.find(cell))):
        print(_line(one))
    for name, why in stored.missing.items():
        print(f"{name}: not measured: {why}")


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the trainings that are asked for: those without faults, then the systems in turns."""
    names = [one.name for one in chosen(options.systems) if one.name != RAW]
    for workload in options.workloads:
        common = {"workload": workload, "seconds": options.seconds}
        for name in (RAW, *names):
            yield Cell(system=name, mtbf=None, seed=0, **common)
        for mtbf in options.mtbf:
            for turn, seed in enumerate(options.seeds):
                for name in names if turn % 2 == 0 else reversed(names):
                    yield Cell(system=name, mtbf=mtbf, seed=seed, **common)


def _with(stored: Stored, cell: Cell, pace: Pace, keep: Path | None) -> Stored:
    """Measure a training, and return what is stored afterwards."""
    with tempfile.TemporaryDirectory(prefix="goodput-") as name:
        folder = Path(name)
        if keep is not None:
            folder = keep / f"{cell.system}-{cell.workload}-{cell.mtbf}-{cell.seed}"
            shutil.rmtree(folder, ignore_errors=True)  # of the training that is measured anew
            folder.mkdir(parents=True)
        began = time.monotonic()
        try:
            reference = None if cell.system == RAW else pace.around(cell.workload)
            found = measured(cell, BY_NAME[cell.system], folder, reference)
        except (Broken, CannotInstall) as error:
            return dataclasses.replace(stored, missing={**stored.missing, cell.system: str(error)})
    say(f"  {time.monotonic() - began:.0f} s: {_line(found)}")
    return dataclasses.replace(stored, results=[*stored.results, found])


def _told(cell: Cell) -> str:
    faults = "no faults" if cell.mtbf is None else f"a fault each {cell.mtbf:g} s, seed {cell.seed}"
    return f"{cell.system}, {cell.workload}, {faults}"


def _line(result: Result) -> str:
    """Return a line about a result."""
    figures = result.figures
    if figures is None:
        return f"{_told(result.cell)}: made no step\n{result.log}"
    outages = ", ".join(f"{one['fault']} {one['seconds']:.1f}" for one in figures.outages)
    end = "" if result.is_done else f"; DID NOT END\n{result.log}"
    return (
        f"{_told(result.cell)}: goodput {figures.goodput:.3f}, {result.faults} faults, "
        f"{figures.redone:.1f} steps redone, {figures.lost} lost, {figures.repeated} repeated, "
        f"{result.restarts} outer restarts, load {result.load_before}; {outages}{end}"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave no process
    main()
