"""Disturb a training of two pods on a real node: here, and with other controllers.

    python -m bench.goodput.cluster run                     everything; takes half an hour
    python -m bench.goodput.cluster run --systems ours jobset --faults kill-1
    python -m bench.goodput.cluster run --repeat 3          three runs of each
    python -m bench.goodput.cluster render                  the page, from the stored results

It needs Linux and root: a kubelet and containerd run on this machine. The page and its results are
written after each run, so that a command that is interrupted goes on where it was; --again measures
anew. JobSet's controller is built from source once, which takes minutes. Close other programs
first, because they affect the times, and say so with --quiet-machine; the load average before each
run is stored with its result.
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
from bench.goodput.cluster import bed, jobset, results
from bench.goodput.cluster.faults import DISTURBANCES, NONE
from bench.goodput.cluster.page import PAGE, page
from bench.goodput.cluster.results import Cell, Result, Stored
from bench.goodput.cluster.running import measured, warm_up
from bench.goodput.cluster.systems import BY_NAME
from bench.machine import Run, load
from tests.cluster.testbed import beds
from tests.cluster.testbed.node import Node
from tests.cluster.testbed.processes import TestbedFailed

DOCS = Path(__file__).parents[3] / "docs"
FAULTS = (NONE, *(one.name for one in DISTURBANCES))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    options = parser().parse_args(arguments)
    if options.command == "run":
        run(options)
    say(f"wrote {write(options.output, results.read(options.output))}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    made = argparse.ArgumentParser(
        "python -m bench.goodput.cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True)
    for name in ("run", "render"):
        one = commands.add_parser(name)
        text = "folder of the page and performance/ (default: docs)"
        one.add_argument("--output", type=Path, metavar="DIR", default=DOCS, help=text)
        if name == "render":
            continue
        one.add_argument("--systems", nargs="+", choices=BY_NAME, default=list(BY_NAME))
        one.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
        one.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each")
        one.add_argument("--again", action="store_true", help="measure what is stored anew")
        one.add_argument("--keep", type=Path, metavar="DIR", help="keep ledgers and logs there")
        text = "nothing else runs on this machine"
        one.add_argument("--quiet-machine", action="store_true", help=text)
    return made


def write(folder: Path, stored: Stored) -> Path:
    """Write the results and the page; return its path."""
    stored = dataclasses.replace(stored, results=results.ordered(stored.results))
    results.write(folder, stored)
    written = folder / PAGE
    written.write_text(page(stored), encoding="utf-8")
    return written


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Yield the runs that are asked for: the systems in turns, those without a fault first."""
    for number in range(options.repeat):
        for fault in options.faults:
            for name in options.systems if number % 2 == 0 else reversed(options.systems):
                yield Cell(system=name, fault=fault, round=number)


def run(options: argparse.Namespace) -> None:
    """Measure what is asked for and not stored, and write the page after each run."""
    stored = results.read(options.output)
    stored = _with_jobset(stored) if "jobset" in options.systems else stored
    asked = [
        cell
        for cell in cells(options)
        if cell.system not in stored.missing and (options.again or stored.find(cell) is None)
    ]
    if not asked:
        return
    stored = dataclasses.replace(stored, run=Run.begun(_command(options), options.repeat))
    beds.prepare(report=say)
    warm_up()
    failures = []
    with bed.started() as node:
        for number, cell in enumerate(asked):
            say(f"{number + 1} of {len(asked)}: {_told(cell)}, load {load()}")
            try:
                found = _measured(cell, node, options)
            except Exception as error:  # noqa: BLE001  # the other runs are not affected
                notes = "\n".join(getattr(error, "__notes__", ()))
                failures.append(f"{_told(cell)}: {error!r}\n{notes}".strip())
                say(f"FAILED {failures[-1]}")
                continue
            stored = dataclasses.replace(stored, results=[*stored.results, found])
            write(options.output, stored)
    if failures:
        sys.exit("\n".join(["what has failed:", *failures]))


def _with_jobset(stored: Stored) -> Stored:
    """Build JobSet's controller; what is stored afterwards says why, if that fails."""
    missing = {name: why for name, why in stored.missing.items() if name != "jobset"}
    try:
        jobset.program(say)
    except TestbedFailed as error:
        missing["jobset"] = str(error)[-1000:]
        say(f"no JobSet: {error}")
    return dataclasses.replace(stored, missing=missing)


def _measured(cell: Cell, node: Node, options: argparse.Namespace) -> Result:
    """Measure a run, in a folder that is removed unless it should be kept."""
    with tempfile.TemporaryDirectory(prefix="goodput-") as name:
        folder = Path(name)
        if options.keep is not None:
            folder = options.keep.absolute() / f"{cell.system}-{cell.fault}-{cell.round}"
            shutil.rmtree(folder, ignore_errors=True)  # of the run that is measured anew
            folder.mkdir(parents=True)
        began = time.monotonic()
        system, is_quiet = BY_NAME[cell.system], options.quiet_machine
        found = measured(cell, system, node, folder, is_quiet=is_quiet)
    say(f"  {time.monotonic() - began:.0f} s: {_line(found)}")
    return found


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same runs."""
    words = ["--systems", *options.systems, "--faults", *options.faults]
    return " ".join(["python -m bench.goodput.cluster run", *words])


def _told(cell: Cell) -> str:
    return f"{cell.system}, {cell.fault}, run {cell.round}"


def _line(result: Result) -> str:
    """Return a line about a result."""
    found = result.verdict
    if found is None:
        return f"made no step\n{result.log}"
    if not found.is_done:
        return f"DID NOT END\n{result.log}"
    recovery = "" if found.recovery is None else f"next step after {found.recovery:.1f} s, "
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found.split.items())
    return (
        f"{recovery}{found.redone:g} steps redone, {found.lost} lost, {found.repeated} repeated, "
        f"{result.pods} pods replaced, {result.containers} containers restarted, "
        f"digest {found.digest}; {parts}"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave no process
    main()
