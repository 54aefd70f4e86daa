"""What each rank says of itself once a second."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from runtime.control.place import Place


class Phase(StrEnum):
    """What the main thread of a rank is doing."""

    INIT = "init"  # before the first batch of this life
    DATA = "data"  # waiting for the next training batch
    STEP = "step"  # between two training batches
    EVALUATION = "evaluation"  # in a pass without optimizer steps
    CHECKPOINT = "checkpoint"  # saving or loading
    AGREEMENT = "agreement"  # holding at a boundary until all ranks agree
    USER = "user"  # outside of any pass, for example between two epochs
    DONE = "done"  # the script has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a rank says of itself once a second; all values are those of this life.

    Attributes:
        place: the place at the last boundary.
        phase: what the main thread is doing.
        phase_seconds: the time since the phase began or a boundary was passed, whichever is later.
        ticks: the number of seconds in which the main thread has run Python code; a number that
            stands still while a step lasts means that the main thread is in C code.
        samples: the number of samples of all ranks that were trained on, since the job began.
        step_seconds: the median duration of the last 50 steps; None if there was none.
        own_seconds: the same, without the time spent waiting in collectives.
        loss: the last known loss; None if there is none.
        metrics: the numbers last passed to `Accelerator.log`.

    Raises:
        ValueError: a count or duration is negative or not finite.
    """

    place: Place
    phase: Phase
    phase_seconds: float = 0.0
    ticks: int = 0
    samples: int = 0
    step_seconds: float | None = None
    own_seconds: float | None = None
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the counts and durations."""
        for name in ("phase_seconds", "ticks", "samples", "step_seconds", "own_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                sentence = f"{name} must be a finite number of at least 0, got {value}"
                raise ValueError(sentence)
