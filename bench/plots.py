"""Plots of the cost against the size, as small SVG files."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.case import Result

THEIRS, OURS, LEAST = "theirs", "ours", "floor"
STYLES: dict[str, dict[str, Any]] = {
    THEIRS: {"linestyle": "--", "marker": "s"},
    OURS: {"marker": "o"},
    LEAST: {"color": "0.6"},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of a plot: one column of a case.

    Attributes:
        case: the name of the case.
        column: the column of the case.
        label: the label in the legend.
    """

    case: str
    column: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot of the cost against one parameter of the size.

    Attributes:
        name: the name of the file.
        theme: the theme of the page that shows the plot.
        title: the title of the plot.
        axis: the parameter on the x axis.
        axis_text: the label of the x axis.
        at: the values of other parameters.
        curves: the curves.
    """

    name: str
    theme: str
    title: str
    axis: str
    axis_text: str
    at: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[Curve]

    def points(self, curve: Curve, results: Sequence[Result]) -> list[tuple[float, float]]:
        """Return the points of a curve, sorted."""
        return sorted(
            (float(result.size[self.axis]), result.median(curve.column))
            for result in results
            if result.case == curve.case
            and curve.column in result.samples
            and result.size == {**result.size, **self.at}
        )

    @property
    def begins_at_zero(self) -> bool:
        """Whether the x axis is a fraction, and linear from 0; otherwise it is logarithmic."""
        return self.axis == "position"

    def caption(self, results: Sequence[Result]) -> str:
        """Return a sentence about how the cost of each curve grows."""
        if self.begins_at_zero:
            return ""
        growths = [
            f"{curve.label} {exponent(self.points(curve, results)):.2f}" for curve in self.curves
        ]
        return f"Exponents of {self.axis_text} in the cost: {', '.join(growths)}."


ACCELERATE = "Accelerate 1.15"
PLOTS = (
    Plot(
        name="first-batch",
        theme="order",
        title="First batch of a shuffled epoch, one rank of 8 (simulated)",
        axis="samples",
        axis_text="samples",
        curves=(
            Curve("first-exact-time", THEIRS, ACCELERATE),
            Curve("first-exact-time", OURS, "torch's order"),
            Curve("first-keyed-time", OURS, "keyed order"),
        ),
    ),
    Plot(
        name="epoch",
        theme="order",
        title="Indices of an epoch of 1e7 samples on one rank (simulated)",
        axis="world",
        axis_text="processes of the world",
        at={"samples": 10**7},
        curves=(
            Curve("epoch-exact", THEIRS, ACCELERATE),
            Curve("epoch-exact", OURS, "torch's order"),
            Curve("epoch-keyed", OURS, "keyed order"),
        ),
    ),
    Plot(
        name="resume",
        theme="resume",
        title="Resume within an epoch of 1e7 samples, one rank of 8 (simulated)",
        axis="position",
        axis_text="position in the epoch",
        at={"samples": 10**7},
        curves=(
            Curve("resume-exact", THEIRS, f"{ACCELERATE}, shuffled"),
            Curve("resume-in-order", THEIRS, f"{ACCELERATE}, in order"),
            Curve("resume-exact", OURS, "torch's order"),
            Curve("resume-keyed", OURS, "keyed order"),
            Curve("resume-in-order", OURS, "in order"),
        ),
    ),
    Plot(
        name="scheduler",
        theme="scheduler",
        title="A CosineAnnealingLR's step (simulated worlds)",
        axis="world",
        axis_text="processes of the world",
        curves=(
            Curve("scheduler-cosine", THEIRS, ACCELERATE),
            Curve("scheduler-cosine", OURS, "here"),
            Curve("scheduler-cosine", LEAST, "one step of torch's"),
        ),
    ),
)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a cost in a log-log plot: 0 for constant, 1 for proportional.

    >>> round(exponent([(1, 3), (10, 30), (100, 300)]), 2)
    1.0
    """
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:  # noqa: PLR2004  # a slope needs two points
        return math.nan
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def draw(plot: Plot, results: Sequence[Result], folder: Path) -> None:
    """Write the file of a plot."""
    mpl.rcParams.update({"svg.hashsalt": plot.name, "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for curve in plot.curves:
        points = plot.points(curve, results)
        axes.plot(*zip(*points, strict=True), label=curve.label, **STYLES[curve.column])
    axes.set_yscale("log")
    axes.set_xscale("linear" if plot.begins_at_zero else "log")
    axes.set_xlabel(plot.axis_text)
    axes.set_ylabel("seconds")
    axes.set_title(plot.title, fontsize=9)
    axes.grid(visible=True, color="0.9")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})


def is_measured(plot: Plot, results: Sequence[Result]) -> bool:
    """Whether each curve of a plot has at least two points."""
    return all(len(plot.points(curve, results)) > 1 for curve in plot.curves)
