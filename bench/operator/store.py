"""Stores the results, from which the page and its plots are rendered."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from bench.machine import Run, facts_of, moved
from bench.operator.lines import LINES, WAYS
from bench.operator.page import page
from bench.operator.plots import draw
from bench.operator.results import Made, Result

PAGE = "performance-operator.md"
RESULTS = "performance/operator.json"  # relative to the folder of the page


def write(folder: Path, made: Made, results: Sequence[Result]) -> Path:
    """Write results, plots and page; results of other cases are kept, with their place.

    Args:
        folder: the folder of the page; results and plots are written to a subfolder.
        made: how the results were measured.
        results: the results of the run.
    """
    file = folder / RESULTS
    file.parent.mkdir(parents=True, exist_ok=True)
    every = ordered([*_kept(folder, made, {result.line for result in results}), *results])
    lines = ",\n".join(json.dumps(facts_of(result)) for result in every)
    head = json.dumps(dataclasses.asdict(made))[1:-1]
    file.write_text(f'{{{head},\n"results": [\n{lines}\n]}}\n', encoding="utf-8")
    draw(every, file.parent)
    written = folder / PAGE
    written.write_text(page(made, every), encoding="utf-8")
    return written


def read(folder: Path) -> tuple[Made, list[Result]]:
    """Read the stored results, and how they were measured."""
    stored = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    made = Made(Run(**stored["run"]), stored["versions"], stored["seconds"])
    return made, [Result(**result) for result in stored["results"]]


def ordered(results: Sequence[Result]) -> list[Result]:
    """Sort results by case and way; drop those of cases that no longer exist."""
    places = {
        (line.name, way): (number, place)
        for number, line in enumerate(LINES)
        for place, way in enumerate(WAYS)
    }
    known = [result for result in results if (result.line, result.way) in places]
    return sorted(known, key=lambda result: places[result.line, result.way])


def _kept(folder: Path, made: Made, measured: set[str]) -> list[Result]:
    if not (folder / RESULTS).exists():
        return []
    before, results = read(folder)
    others = (one for one in results if one.line not in measured)
    return moved(others, before.place, made.place)
