"""How long a step takes, and how long the training will take, from the beats of rank 0.

A beat tells how many steps are completed, and what the main thread does now. The time between two
beats counts for steps only if rank 0 trained at both: a checkpoint, an agreement or an evaluation
changes neither the rate nor the estimate. What a step takes is a mean over the recent steps, whose
weight is halved after HALF_STEPS steps or HALF_SECONDS, whichever is longer.
"""

from typing import Final

from runtime.control.beat import Beat, Phase
from runtime.control.progress.snapshot import Totals

TRAINING: Final = frozenset({Phase.DATA, Phase.STEP})
BETWEEN: Final = frozenset({Phase.EVALUATION, Phase.USER})  # what an epoch takes beside its steps
HALF_STEPS: Final = 20
HALF_SECONDS: Final = 15.0
OUTLIER: Final = 10  # medians: a step that takes longer, as in a debugger, counts for so many


class Pace:
    """Follows the beats of rank 0."""

    def __init__(self) -> None:
        self._steps = self._seconds = self._samples = 0.0  # decaying sums over measured steps
        self._epoch_seconds: float | None = None  # what the last epochs took beside their steps
        self.begin()

    def begin(self) -> None:
        """Begin a life: what is between two lives is no step, and its first step takes longer."""
        self._last: tuple[Beat, float] | None = None
        self._is_warm = False  # whether the first step, which may compile, is over
        self._pending = 0.0  # seconds of training since the last completed step
        self._between = 0.0  # seconds of this epoch beside its steps

    @property
    def step_seconds(self) -> float | None:
        """The duration of a step without pauses; the median of rank 0 if none was measured yet."""
        if self._steps:
            return self._seconds / self._steps
        return self._last[0].step_seconds if self._last else None

    @property
    def samples_per_second(self) -> float | None:
        """The samples of all ranks per second of training."""
        return self._samples / self._seconds if self._seconds else None

    def hear(self, beat: Beat, now: float) -> None:
        """Take a beat of rank 0 at a monotonic time."""
        before, self._last = self._last, (beat, now)
        if before is not None:
            self._pass(before[0], beat, max(0.0, now - before[1]))

    def eta(self, totals: Totals) -> float | None:
        """Return the estimated time to the end of the last epoch; None if it cannot be known."""
        if self._last is None or totals.steps is None or self.step_seconds is None:
            return None
        place = self._last[0].place
        left = max(0, totals.steps - place.steps) * self.step_seconds
        left -= min(self._pending, self.step_seconds, left)
        epochs_left = 0 if totals.epochs is None else max(0, totals.epochs - place.epochs)
        each = self._epoch_seconds or 0.0
        return left + epochs_left * each + max(0.0, each - self._between)

    def _pass(self, before: Beat, beat: Beat, seconds: float) -> None:
        """Account for the time between two beats."""
        if before.phase in BETWEEN and self._is_warm:
            self._between += seconds
        epochs = beat.place.epochs - before.place.epochs
        if epochs > 0:
            self._end_epochs(epochs)
        if not {before.phase, beat.phase} <= TRAINING:
            self._pending = 0.0
            self._is_warm |= beat.place.steps > before.place.steps
            return
        self._pending += seconds
        steps = beat.place.steps - before.place.steps
        if steps > 0:
            self._measure(steps, beat.samples - before.samples, beat.step_seconds)

    def _end_epochs(self, epochs: int) -> None:
        each, self._between = self._between / epochs, 0.0
        before = each if self._epoch_seconds is None else self._epoch_seconds
        if self._is_warm:
            self._epoch_seconds = (before + each) / 2

    def _measure(self, steps: int, samples: int, median: float | None) -> None:
        seconds, self._pending = self._pending, 0.0
        if not self._is_warm:
            self._is_warm = True
            return
        seconds = min(seconds, OUTLIER * median * steps) if median else seconds
        kept = 0.5 ** min(steps / HALF_STEPS, seconds / HALF_SECONDS)
        self._steps = kept * self._steps + steps
        self._seconds = kept * self._seconds + seconds
        self._samples = kept * self._samples + max(0, samples)
