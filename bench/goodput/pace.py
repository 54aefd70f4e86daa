"""How fast the raw loop is before and after a training, on a machine whose speed changes."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.goodput.cell import Cell, measured
from bench.goodput.systems.table import BY_NAME, RAW

SECONDS = 16.0  # of the work of a short raw loop
_FRESH = 30.0  # seconds for which what was measured after a training is good before the next one


class Pace:
    """Runs the raw loop for a short time between trainings."""

    def __init__(self) -> None:
        """Begin without any measurement."""
        self._latest: dict[str, tuple[float, float]] = {}  # workload -> when, seconds of a step

    def around(self, workload: str) -> Callable[[], float]:
        """Measure before a training, and return what measures after it.

        Args:
            workload: the name of the workload.

        Returns:
            A function to be called after the training. It returns the mean of both measurements,
            in seconds of a step.
        """
        at, before = self._latest.get(workload, (-_FRESH, 0.0))
        if time.monotonic() - at > _FRESH:
            before = self._measured(workload)
        return lambda: statistics.fmean((before, self._measured(workload)))

    def _measured(self, workload: str) -> float:
        cell = Cell(system=RAW, workload=workload, seconds=SECONDS, mtbf=None, seed=0)
        with tempfile.TemporaryDirectory(prefix="goodput-") as folder:
            found = measured(cell, BY_NAME[RAW], Path(folder), None)
        if found.figures is None or not found.is_done:
            raise SystemExit(f"the raw loop must come to its end, but did not\n{found.log}")
        step = found.figures.seconds / cell.steps
        self._latest[workload] = time.monotonic(), step
        return step
