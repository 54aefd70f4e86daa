"""What the time of an attempt went into, as far as its pods can know.

Pods do not know how long the job waited for nodes, or was suspended: the operator adds this. What
is neither productive nor lost went into evaluations, and into steps that were slower than most.
"""

from enum import StrEnum
from typing import Final

from runtime.control.beat import Beat, Phase
from runtime.control.progress.snapshot import Goodput, Lost


class Cause(StrEnum):
    """What time is lost for, among what a pod can know; the names are fields of `Lost`."""

    STARTING = "starting"
    LOADING = "loading"
    REDONE = "redone"
    CHECKPOINT = "checkpoint"
    HANG = "hang"


_BEFORE_TRAINING: Final = frozenset({Phase.INIT, Phase.CHECKPOINT})
_PAUSES: Final = frozenset({Phase.CHECKPOINT, Phase.AGREEMENT})


class Ledger:
    """Follows the beats of rank 0; the time from a beat to the next one is the first one's."""

    def __init__(self, now: float) -> None:
        """Begin the account of an attempt whose processes are started now."""
        self._began = self._counted = now
        self._lost: dict[Cause, float] = dict.fromkeys(Cause, 0.0)
        self._cause: Cause | None = Cause.STARTING  # of the time since `_counted`
        self._unexplained = 0.0  # seconds without a cause since the last completed step
        self._hangs = False
        self._has_trained = False  # in this life
        self._step: int | None = None  # the last one, of an earlier life until this one trains
        self._productive = 0.0  # seconds of the steps that were kept
        self._room = 0.0  # seconds that they can have taken: those without a cause
        self._unmeasured = 0  # further steps, whose duration is not known yet

    def begin(self, now: float) -> None:
        """Begin a life; the time since the last beat of the one before is lost for starting."""
        self._cause = Cause.HANG if self._hangs else Cause.STARTING
        self._count(now)
        self._cause, self._unexplained = Cause.STARTING, 0.0
        self._hangs = self._has_trained = False

    def hear(
        self, beat: Beat, now: float, step_seconds: float | None, first_step: int | None
    ) -> None:
        """Take a beat of rank 0.

        Args:
            beat: the beat.
            now: the monotonic time.
            step_seconds: the duration of a step now; None if it is not known.
            first_step: the number of completed steps when this life began to train; None if it is
                not known.
        """
        self._count(now)
        step = beat.place.steps
        if not self._has_trained and beat.phase not in _BEFORE_TRAINING:
            first_step = step if first_step is None else min(first_step, step)
            self._train(first_step, step_seconds)
            self._room += (step - first_step) * (step_seconds or 0.0)  # part of the time of loading
        if self._has_trained and step > (before := self._step or 0):
            self._keep(step - before, step_seconds)
            self._step, self._unexplained = step, 0.0
        self._cause = self._cause_of(beat.phase)

    def hang(self, now: float, *, hangs: bool) -> None:
        """Say whether no rank comes forward; if so, the time since the last step was lost, too."""
        if hangs == self._hangs:
            return
        self._count(now)
        self._hangs = hangs
        if hangs:
            self._lost[Cause.HANG] += self._unexplained
            self._room -= self._unexplained
        self._unexplained = 0.0
        self._cause = Cause.HANG if hangs else None

    def goodput(self, now: float, step_seconds: float | None) -> Goodput:
        """Return the account at a monotonic time."""
        seconds = dict(self._lost)
        if self._cause is not None:
            seconds[self._cause] += max(0.0, now - self._counted)
        lost = Lost(**{str(cause): value for cause, value in seconds.items()})
        if self._step is None or step_seconds is None:
            return Goodput(lost=lost)
        productive = self._productive + self._unmeasured * step_seconds
        wall = now - self._began
        ratio = min(1.0, productive / wall) if wall > 0 else None
        return Goodput(ratio=ratio, productive_seconds=productive, lost=lost)

    def _train(self, step: int, step_seconds: float | None) -> None:
        """Note the step that a life goes on from; those up to the old life's are done again."""
        again = 0 if self._step is None else max(0, self._step - step)
        seconds = again * (step_seconds or 0.0)
        self._lost[Cause.REDONE] += seconds
        self._room -= seconds
        self._keep(-again, step_seconds)
        self._step, self._has_trained = step, True

    def _keep(self, steps: int, step_seconds: float | None) -> None:
        """Count steps, or fewer of them if it is negative, each as long as a step takes now."""
        self._unmeasured += steps
        if step_seconds is not None:
            seconds = self._productive + self._unmeasured * step_seconds
            self._productive, self._unmeasured = max(0.0, min(seconds, self._room)), 0

    def _cause_of(self, phase: Phase) -> Cause | None:
        if self._hangs:
            return Cause.HANG
        if not self._has_trained:
            return Cause.LOADING
        return Cause.CHECKPOINT if phase in _PAUSES else None

    def _count(self, now: float) -> None:
        """Add the time since it was last counted to its cause."""
        seconds, self._counted = max(0.0, now - self._counted), max(now, self._counted)
        if self._cause is None:
            self._unexplained += seconds
            self._room += seconds
        else:
            self._lost[self._cause] += seconds
