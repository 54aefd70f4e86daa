"""Stores the results, from which the page and its picture are rendered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.goodput.cell import Cell, Result
from bench.goodput.page import page
from bench.goodput.plots import draw
from bench.goodput.systems.table import BY_NAME, SYSTEMS
from bench.machine import Run

PAGE = "performance-goodput.md"
RESULTS = "performance/goodput.json"  # relative to the folder of the page


@dataclass(frozen=True, slots=True)
class Stored:
    """The results of a run, which may have been continued.

    Attributes:
        run: the machine and the last command; None if nothing was measured.
        results: the results, in the order of the systems.
        missing: why a system cannot be measured, by its name.
    """

    run: Run | None
    results: Sequence[Result]
    missing: dict[str, str]

    def find(self, cell: Cell) -> Result | None:
        """Return the result of a training; None if it was not measured."""
        return next((one for one in self.results if one.cell == cell), None)


def read(folder: Path) -> Stored:
    """Read what is stored.

    Args:
        folder: the folder of the page.
    """
    file = folder / RESULTS
    if not file.exists():
        return Stored(None, [], {})
    facts = json.loads(file.read_text(encoding="utf-8"))
    results = [Result.of(one) for one in facts["results"]]
    return Stored(facts["run"] and Run(**facts["run"]), results, facts["missing"])


def write(folder: Path, stored: Stored) -> Path:
    """Write results, picture and page; a result replaces an older one of the same training."""
    file = folder / RESULTS
    file.parent.mkdir(parents=True, exist_ok=True)
    every = _ordered(stored.results)
    lines = ",\n".join(json.dumps(one.facts) for one in every)
    run, missing = json.dumps(stored.run and stored.run.facts), json.dumps(stored.missing)
    text = f'{{"run": {run},\n"missing": {missing},\n"results": [\n{lines}\n]}}\n'
    file.write_text(text, encoding="utf-8")
    draw(every, file.parent)
    written = folder / PAGE
    written.write_text(page(stored.run, every, stored.missing), encoding="utf-8")
    return written


def _ordered(results: Sequence[Result]) -> list[Result]:
    latest = {one.cell: one for one in results if one.cell.system in BY_NAME}
    places = {system.name: place for place, system in enumerate(SYSTEMS)}
    return sorted(
        latest.values(),
        key=lambda one: (
            one.cell.workload,
            places[one.cell.system],
            one.cell.mtbf or 0.0,
            one.cell.seed,
        ),
    )
