"""The plots of the operator, in the style of those of the runtime."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import plots
from bench.case import Result as CaseResult
from bench.operator.results import Result
from bench.plots import LEAST, OURS, THEIRS, Curve, Plot

_COLUMNS = {"operator": OURS, "indexed job": THEIRS, "raw posts": LEAST}
PLOTS = (
    Plot(
        name="operator-burst",
        theme="burst",
        title="Jobs of 8 pods created at once, until all pods exist",
        axis="jobs",
        axis_text="jobs",
        at={"pods": 8},
        curves=(
            Curve("burst", THEIRS, "Indexed Job"),
            Curve("burst", OURS, "AcceleratedJob"),
            Curve("burst", LEAST, "raw posts"),
        ),
    ),
    Plot(
        name="operator-restart",
        theme="restart",
        title="From a pod's death until the next attempt's pods exist",
        axis="pods",
        axis_text="pods of the job",
        curves=(Curve("restart", OURS, "AcceleratedJob"),),
    ),
)
_FACTS = {"burst": "seconds", "restart": "restart"}  # theme of a plot -> measured quantity


def _cases(results: Sequence[Result]) -> Iterator[CaseResult]:
    for result in results:
        theme = result.line.partition("-")[0]
        if theme in _FACTS and result.way in _COLUMNS:
            samples = {_COLUMNS[result.way]: result.values(_FACTS[theme])}
            yield CaseResult(theme, result.size, samples)


def is_measured(plot: Plot, results: Sequence[Result]) -> bool:
    """Whether each curve of a plot has at least two points."""
    return plots.is_measured(plot, list(_cases(results)))


def draw(results: Sequence[Result], folder: Path) -> None:
    """Write the files of all plots that are measured."""
    cases = list(_cases(results))
    for plot in PLOTS:
        if plots.is_measured(plot, cases):
            plots.draw(plot, cases, folder)
