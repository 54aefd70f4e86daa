"""Stores the results, from which the page and its picture are rendered."""

from collections.abc import Sequence
from pathlib import Path

from bench.goodput import excerpt, page, stored
from bench.goodput.cell import Result
from bench.goodput.plots import draw
from bench.goodput.systems.table import BY_NAME, SYSTEMS

PAGE = "performance-goodput.md"
RESULTS = "performance/goodput.json"  # relative to the folder of the page


Stored = stored.Stored[Result]


def read(folder: Path) -> Stored:
    """Read what is stored.

    Args:
        folder: the folder of the page.
    """
    return stored.read(folder / RESULTS, Result.of)


def write(folder: Path, found: Stored) -> Path:
    """Write results, picture and pages; a result replaces an older one of the same training."""
    file, every = folder / RESULTS, _ordered(found.results)
    stored.write(file, found.run, every, found.missing)
    draw(every, file.parent)
    written = folder / PAGE
    written.write_text(page.page(found.run, every, found.missing), encoding="utf-8")
    excerpt.put(folder, list(page.excerpt(every)))
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
