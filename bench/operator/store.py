"""The results on disk: what the page and its plots are made of."""

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
RESULTS = "performance/operator.json"  # of the page's folder


def write(folder: Path, made: Made, results: Sequence[Result]) -> Path:
    """Write results, plots and page; other lines' results stay, with their place.

    Args:
        folder: of the page; the rest goes below it.
        made: how.
        results: all that were measured.
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
    """How a page's results were made, and the results."""
    stored = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    made = Made(Run(**stored["run"]), stored["versions"], stored["seconds"])
    return made, [Result(**result) for result in stored["results"]]


def ordered(results: Sequence[Result]) -> list[Result]:
    """In the order of lines and ways; those of lines that are no more are left out."""
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
