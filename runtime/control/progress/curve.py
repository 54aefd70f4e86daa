"""A curve of a bounded number of points, however long the training is."""

import math
from typing import Final

LIMIT: Final = 500
MAX_DRAWN: Final = 1e30  # differences of larger values may overflow

Point = tuple[int, float]


class Curve:
    """Keeps the values of some steps, spread evenly, and the value of the last step."""

    def __init__(self, limit: int = LIMIT) -> None:
        """Create an empty curve of at most `limit` points, >= 4."""
        self._limit = limit
        self._stride = 1  # the smallest distance of two kept steps
        self._kept: list[Point] = []
        self._last: Point | None = None

    @property
    def points(self) -> tuple[Point, ...]:
        """The (step, value) pairs, by step."""
        is_kept = self._last is None or self._last in self._kept[-1:]
        return (*self._kept,) if is_kept or self._last is None else (*self._kept, self._last)

    def add(self, step: int, value: float) -> None:
        """Add a point; one that cannot be drawn, or of the last step again, is left out.

        A step before the last one means that the training went back: later points are removed.
        """
        last = -1 if self._last is None else self._last[0]
        if not abs(value) <= MAX_DRAWN or step == last:  # NaN is left out, too
            return
        if step < last:
            self._kept = [point for point in self._kept if point[0] < step]
        self._last = (step, value)
        self._keep(self._last)
        if len(self._kept) == self._limit:
            self._thin()

    def _keep(self, point: Point) -> None:
        if not self._kept or point[0] >= self._kept[-1][0] + self._stride:
            self._kept.append(point)

    def _thin(self) -> None:
        """Keep about half of the points: those that are at least twice the mean distance apart."""
        given, self._kept = self._kept, []
        self._stride = math.ceil(2 * (given[-1][0] - given[0][0]) / self._limit)
        for point in given:
            self._keep(point)
