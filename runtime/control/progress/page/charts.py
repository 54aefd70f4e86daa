"""Draws the curve of the loss, the map of the ranks and the bars as inline SVG.

Colors are classes of the document's style: the policy of the page allows no style attributes.
"""

import math
from collections.abc import Collection, Sequence
from html import escape
from statistics import median_low
from typing import Final

from runtime.control.progress.interest import by_interest, own_seconds
from runtime.control.progress.page.text import number, short, whole
from runtime.control.progress.snapshot import RankProgress

_WIDTH, _HEIGHT = 720, 240  # of the curve
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 10, 26  # its margins
_TICKS: Final = 4  # about so many lines across
_BAR: Final = 1000  # the width of a bar; it is stretched
MAX_CELLS: Final = 2048
LEVELS: Final = (1.05, 1.15, 1.3, 1.6)  # bounds of the colors: the step time by the median
_MANY: Final = 512  # ranks from which cells are smaller
_COLUMNS, _CELL = 32, 20
_MANY_COLUMNS, _SMALL_CELL = 64, 11


def bar(parts: Sequence[tuple[str, float]], label: str) -> str:
    """Return a bar of (class, share of the width)."""
    drawn, begin = [], 0.0
    for name, share in parts:
        drawn.append(
            f'<rect class="{name}" x="{begin * _BAR:.1f}" width="{share * _BAR:.1f}" height="10"/>'
        )
        begin += share
    return (
        f'<svg class="bar" viewBox="0 0 {_BAR} 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(drawn)}</svg>'
    )


def curve(points: Sequence[tuple[int, float]], marks: Collection[int]) -> str:
    """Return a curve of (step, value), with marks at steps that have a checkpoint."""
    ticks = _ticks([value for _, value in points])
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def x(step: int) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    shown = [step for step in marks if first <= step <= last]
    return "".join(
        (
            f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" ',
            f'aria-label="loss by step, now {number(points[-1][1])}">',
            *(_across(tick, y(tick)) for tick in ticks),
            *(_mark(step, x(step)) for step in shown),
            f'<polyline points="{line}"/>',
            f'<circle cx="{x(points[-1][0]):.1f}" cy="{y(points[-1][1]):.1f}" r="3.5"/>',
            _below(first, x(first), "start"),
            _below(last, x(last), "end"),
            "</svg>",
        )
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """Return round numbers from below the smallest to above the largest value."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    rough = span / _TICKS
    if not math.isfinite(rough) or rough < 1e-300:  # noqa: PLR2004  # no round number is between
        return [low, high] if low < high else [low, low + 1]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(by * power for by in (1, 2, 2.5, 5, 10) if by * power >= rough)
    begin = math.floor(low / step)
    ticks = [(begin + number) * step for number in range(math.ceil(high / step) - begin + 1)]
    return ticks if len(ticks) > 1 and ticks[0] < ticks[-1] else [low, low + span]


def _across(tick: float, y: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>'
    )


def _below(step: int, x: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">step {whole(step)}</text>'


def _mark(step: int, x: float) -> str:
    low = _HEIGHT - _BOTTOM
    return (
        f'<path class="mark" d="M{x:.1f} {low - 8}l4 8h-8z">'
        f"<title>checkpoint at step {whole(step)}</title></path>"
    )


def heat(ranks: Sequence[RankProgress], blamed: Collection[int | None]) -> str:
    """Return a map of the ranks, colored by their own time of a step next to the median."""
    chosen = by_interest(ranks)[:MAX_CELLS]
    cells = sorted(chosen, key=lambda one: one.rank)
    known = [seconds for one in ranks if (seconds := own_seconds(one)) is not None]
    middle = median_low(known) if known else 0.0
    most, size = (_MANY_COLUMNS, _SMALL_CELL) if len(cells) > _MANY else (_COLUMNS, _CELL)
    columns = min(len(cells), most)
    width, height = columns * size, -(-len(cells) // columns) * size
    drawn = []
    for index, one in enumerate(cells):
        ring = " blamed" if one.rank in blamed else ""
        name = level(own_seconds(one), middle) + ring
        drawn.append(_cell(one, divmod(index, columns), size, name))
    return (
        f'<svg class="heat" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="step time of {len(cells)} ranks">{"".join(drawn)}</svg>'
    )


def _cell(one: RankProgress, at: tuple[int, int], size: int, name: str) -> str:
    row, column = at
    return (
        f'<rect class="{name}" x="{column * size + 1}" y="{row * size + 1}" '
        f'width="{size - 2}" height="{size - 2}" rx="{size // 6}">'
        f"<title>rank {one.rank}: {short(own_seconds(one))}, {one.phase or 'not heard yet'}</title>"
        "</rect>"
    )


def level(seconds: float | None, middle: float) -> str:
    """Return the class of a rank's color.

    >>> level(1.0, 1.0), level(1.2, 1.0), level(9.0, 1.0), level(None, 1.0)
    ('heat-0', 'heat-2', 'heat-4', 'heat-none')
    """
    if seconds is None:
        return "heat-none"
    return f"heat-{sum(seconds > bound * middle for bound in LEVELS)}"
