"""When the next automatic checkpoint is due."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

SHARE = 0.01  # of the time, that checkpoints may cost
FIRST = 5  # the first one counts as a fifth of what it costs
SHORTEST = 1.0  # seconds between two checkpoints of the continuous cadence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often automatic checkpoints are written; continuously if neither `every_` is set.

    The continuous cadence costs at most `SHARE` of the time. Where lives are short, it costs as
    much as the steps that it saves: the time between two checkpoints that loses least is the root
    of twice the product of their cost and the mean life (J. W. Young, 1974).

    Attributes:
        every_steps: the number of optimizer steps between two checkpoints, >= 1; None if not set.
        every_seconds: the time between two checkpoints, > 0; None if not set.
        mean_life: the mean time from a start to a failure, > 0, in seconds; infinity if none is
            known.

    Raises:
        ValueError: a number is too small.
    """

    every_steps: int | None = None
    every_seconds: float | None = None
    mean_life: float = math.inf

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.every_steps is not None and self.every_steps < 1:
            sentence = f"every_steps must be at least 1, got {self.every_steps}"
            raise ValueError(sentence)
        if self.every_seconds is not None and not self.every_seconds > 0:
            sentence = f"every_seconds must be more than 0, got {self.every_seconds}"
            raise ValueError(sentence)
        if not self.mean_life > 0:
            raise ValueError(f"mean_life must be more than 0, got {self.mean_life}")

    def next_step(self, last: int) -> float:
        """Return the step at which the next checkpoint is due; infinity if steps do not matter.

        Args:
            last: the step of the last checkpoint.
        """
        if self.every_steps is None:
            return math.inf
        return last - last % self.every_steps + self.every_steps

    def next_time(self, last: float, cost: float) -> float:
        """Return the time at which the next checkpoint is due; infinity if time does not matter.

        Args:
            last: the time of the last checkpoint, or of the beginning; in seconds.
            cost: the time that the training has lost by it, in seconds.
        """
        if self.every_seconds is not None:
            return last + self.every_seconds
        if self.every_steps is not None:
            return math.inf
        least_loss = math.sqrt(2 * cost * self.mean_life) if cost else 0.0
        return last + max(min(cost / SHARE, least_loss), SHORTEST)


class Clock:
    """Measures from the last checkpoint of a cadence when the next one is due.

    Attributes:
        next_step: the step at which it is due; infinity if steps do not matter.
    """

    def __init__(self, cadence: Cadence, now: Callable[[], float] = time.monotonic) -> None:
        """Begin now; `now` returns the time in seconds."""
        self._cadence, self._now = cadence, now
        self.next_step = math.inf
        self._last, self._taken = now(), 0
        self._pause = self._cost = 0.0  # of the last one; with the CPU time
        self._before = math.inf  # what the one before has cost

    def begin(self, step: int) -> None:
        """Note that the training begins at a checkpoint, which was taken earlier.

        Args:
            step: its step; 0 if there is none.
        """
        self.next_step = self._cadence.next_step(step)
        self._last, self._taken, self._pause = self._now(), 0, 0.0

    def note(self, step: int, pause: float) -> None:
        """Note that a checkpoint was taken a moment ago.

        Args:
            step: its step.
            pause: the seconds for which the training has waited.
        """
        self.next_step = self._cadence.next_step(step)
        self._before = self._cost if self._taken else math.inf
        self._last, self._taken, self._pause = self._now(), self._taken + 1, pause

    def next_time(self, cpu_seconds: float) -> float:
        """Return the monotonic time at which it is due; infinity if time does not matter.

        Args:
            cpu_seconds: the CPU time that threads have spent on the last one.
        """
        self._cost = self._pause + cpu_seconds
        return self._cadence.next_time(self._last, self._typical)

    @property
    def _typical(self) -> float:
        """What a checkpoint costs, in seconds.

        One may cost far more than the others: the first, which allocates memory, or one on a busy
        machine. Otherwise it would put off the next one by a hundred times as much.
        """
        if self._taken <= 1:
            return self._cost / FIRST
        return min(self._cost, self._before)
