"""The picture of where the time of the trainings went, as a small SVG file."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.goodput.cell import Result
from bench.goodput.metrics import SPENT
from bench.goodput.summary import Summary, best
from bench.goodput.systems.table import GROUPS
from bench.goodput.workloads import WORKLOADS, Workload

AT = 60.0  # the mean time between two faults, in seconds
PICTURE = "performance/goodput-{}.svg"  # relative to the page; with the name of the workload
LABELS = {
    "kept": "kept steps",
    "slower": "slower steps, checkpoints",
    "redone": "steps done again",
    "detect": "fault is noticed",
    "stop": "old processes end",
    "start": "Python starts and imports",
    "join": "ranks join",
    "load": "state is loaded",
    "first": "first step",
}
_COLORS = (
    "0.35",
    "0.6",
    "#d62728",
    "#ff7f0e",
    "#ffbb78",
    "#1f77b4",
    "#aec7e8",
    "#9467bd",
    "#c5b0d5",
)


def _bars(results: Sequence[Result], workload: Workload) -> dict[str, Summary]:
    found = ((group, best(results, group, workload.name, AT)) for group in GROUPS)
    return {group: summary for group, summary in found if summary and summary.figures}


def is_measured(results: Sequence[Result], workload: Workload) -> bool:
    """Whether there is a system to show."""
    return bool(_bars(results, workload))


def draw(results: Sequence[Result], folder: Path) -> None:
    """Write the picture of each workload that is measured.

    Args:
        results: the results.
        folder: the folder of the pictures.
    """
    for workload in WORKLOADS.values():
        bars = _bars(results, workload)
        if bars:
            _draw(bars, workload, folder / Path(PICTURE.format(workload.name)).name)


def _draw(bars: dict[str, Summary], workload: Workload, file: Path) -> None:
    mpl.rcParams.update({"svg.hashsalt": file.name, "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7.2, 1.6 + 0.35 * len(bars)), layout="constrained")
    axes = figure.subplots()
    names, left = list(bars), [0.0] * len(bars)
    spent = [summary.spent() for summary in bars.values()]
    for part, color in zip(SPENT, _COLORS, strict=True):
        widths = [one[part] for one in spent]
        axes.barh(names, widths, left=left, color=color, label=LABELS[part], height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("part of the time since the first step")
    axes.set_title(f"{workload.title}, a fault each {AT:.0f} s on average", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None})
