"""Stores the results, from which the page and its plots are rendered."""

import json
from collections.abc import Sequence
from pathlib import Path

from bench.case import Result
from bench.cases import CASES
from bench.machine import Run, facts_of, moved
from bench.page import page
from bench.plots import PLOTS, draw, is_measured

BELOW = "performance"  # relative to the folder of the page
RESULTS = f"{BELOW}/results.json"


def write(folder: Path, run: Run, results: Sequence[Result]) -> Path:
    """Write results, plots and page; results of other cases are kept, with their place.

    Args:
        folder: the folder of the page; results and plots are written to a subfolder.
        run: the run.
        results: the results of the run.
    """
    below = folder / BELOW
    below.mkdir(parents=True, exist_ok=True)
    file = folder / RESULTS
    every = ordered([*_kept(folder, run, {result.case for result in results}), *results])
    lines = ",\n".join(json.dumps(facts_of(result)) for result in every)
    text = f'{{"run": {json.dumps(run.facts)},\n"results": [\n{lines}\n]}}\n'
    file.write_text(text, encoding="utf-8")
    for plot in PLOTS:
        if is_measured(plot, every):
            draw(plot, every, below)
    made = folder / "performance.md"
    made.write_text(page(run, every), encoding="utf-8")
    return made


def read(folder: Path) -> tuple[Run, list[Result]]:
    """Read the stored run and results."""
    stored = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return Run(**stored["run"]), [Result(**result) for result in stored["results"]]


def add(folder: Path, other: Path) -> Path:
    """Write the page with the results of another run, which replace those of the same cases.

    Args:
        folder: the folder of the page, with the results of a run.
        other: the folder of the other run, perhaps on another machine.
    """
    (run, results), (there, more) = read(folder), read(other)
    measured = {result.case for result in more}
    kept = [result for result in results if result.case not in measured]
    return write(folder, run, [*kept, *moved(more, there.place, run.place)])


def ordered(results: Sequence[Result]) -> list[Result]:
    """Sort results by case; drop those of cases that no longer exist."""
    places = {case.name: place for place, case in enumerate(CASES)}
    known = [result for result in results if result.case in places]
    return sorted(known, key=lambda result: places[result.case])


def _kept(folder: Path, run: Run, measured: set[str]) -> list[Result]:
    if not (folder / RESULTS).exists():
        return []
    before, results = read(folder)
    others = (one for one in results if one.case not in measured)
    return moved(others, before.place, run.place)
