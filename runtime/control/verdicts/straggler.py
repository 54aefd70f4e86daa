"""Names the ranks whose own work takes longer than that of the others.

The ranks of a job advance together, so the wall time of a step is the same on all of them; the time
that a rank does not spend waiting for the others is its own. A rank is compared with the median of
the other ranks, so that it does not raise what it is compared with, which matters with two ranks.
"""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.control.beat import Beat
from runtime.control.verdicts.life import Home, Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """When a rank counts as slow.

    Attributes:
        steps: the number of steps in a window, as in `Beat.own_seconds`.
        windows: the number of windows in a row after which a rank is blamed, or no longer blamed.
        ratio: how many times longer than the median of the others its own time is.

    Raises:
        ValueError: a value is too small.
    """

    steps: int = 50
    windows: int = 5
    ratio: float = 1.3

    def __post_init__(self) -> None:
        """Check the values."""
        if self.steps < 1 or self.windows < 1:
            raise ValueError(f"steps and windows must be at least 1, got {self}")
        if not (math.isfinite(self.ratio) and self.ratio > 1):
            raise ValueError(f"ratio must be finite and above 1, got {self.ratio}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A rank that is blamed for being slow.

    Attributes:
        rank: the rank.
        seconds: its own time of a step, a median.
        others: the median of the own times of the other ranks, in seconds.
    """

    rank: int
    seconds: float
    others: float

    def told(self, home: Home | None) -> str:
        """Return one sentence for the log.

        Args:
            home: where the rank runs; None if it is unknown.
        """
        where = f" ({home})" if home else ""
        took = f"{1000 * self.seconds:.1f} ms a step without waiting"
        usual = f"{1000 * self.others:.1f} ms on the other ranks"
        return f"rank {self.rank}{where} slows the training down: {took}, {usual}"

    def as_dict(self, home: Home | None) -> dict[str, Any]:
        """Return the verdict for JSON.

        Args:
            home: where the rank runs; None if it is unknown.
        """
        return {
            "kind": "straggler",
            "rank": self.rank,
            "replica": home.replica if home else None,
            "node": (home.node or None) if home else None,
            "seconds": self.seconds,
            "othersSeconds": self.others,
            "message": self.told(home),
        }


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a rank said last: the number of the window that it is in, and its own time, if any."""

    window: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """What is known of the speed of all ranks; each method returns the next state.

    Attributes:
        life: the life that is judged; what belongs to another one is dropped.
        measure: when a rank counts as slow.
        samples: rank -> what it said last.
        closed: the number of the last window that all ranks have left.
        streaks: rank -> for how many windows in a row it was slow while it is not blamed, or was
            not slow while it is.
        slow: the ranks that are blamed, the slowest first.
    """

    life: Life = field(default_factory=Life)
    measure: Measure = field(default_factory=Measure)
    samples: Mapping[int, _Sample] = field(default_factory=dict)
    closed: int = 0
    streaks: Mapping[int, int] = field(default_factory=dict)
    slow: tuple[Slow, ...] = ()

    def begun(self, life: Life) -> "Stragglers":
        """Return the state at the begin of a life: nobody is blamed."""
        return Stragglers(life=life, measure=self.measure)

    def heard(self, life: Life, beats: Mapping[int, Beat]) -> "Stragglers":
        """Take in beats; those of another life are dropped.

        Args:
            life: the life that the beats belong to.
            beats: rank -> its beat.
        """
        if life != self.life:
            return self
        told = {
            rank: _Sample(beat.place.steps // self.measure.steps, beat.own_seconds)
            for rank, beat in beats.items()
        }
        return _closed(replace(self, samples={**self.samples, **told}))

    def lost(self, life: Life, rank: int) -> "Stragglers":
        """Take in that a rank is not heard any more: the others do not wait for its windows."""
        if life != self.life:
            return self
        left = {one: sample for one, sample in self.samples.items() if one != rank}
        return replace(self, samples=left)


def _closed(state: Stragglers) -> Stragglers:
    """Return the state after the window that all ranks have left, if there is a new one."""
    if any(one.window <= state.closed for one in state.samples.values()):
        return state
    told = {rank: one.seconds for rank, one in state.samples.items()}
    seconds = {rank: one for rank, one in told.items() if one is not None}
    if len(seconds) < 2:  # noqa: PLR2004  # who is slower than whom?
        return state
    others = _medians_of_others(seconds)
    is_slow = {rank: seconds[rank] >= state.measure.ratio * others[rank] > 0 for rank in seconds}
    blamed = {one.rank for one in state.slow}
    streaks = {
        rank: state.streaks.get(rank, 0) + 1 if is_slow[rank] != (rank in blamed) else 0
        for rank in seconds
    }
    turned = {rank for rank, count in streaks.items() if count >= state.measure.windows}
    slow = [
        Slow(rank=rank, seconds=seconds[rank], others=others[rank])
        for rank in (blamed ^ turned) & seconds.keys()
    ]
    return replace(
        state,
        closed=min(one.window for one in state.samples.values()),
        streaks={rank: 0 if rank in turned else count for rank, count in streaks.items()},
        slow=tuple(sorted(slow, key=lambda one: (-one.seconds, one.rank))),
    )


def _medians_of_others(seconds: Mapping[int, float]) -> dict[int, float]:
    """Return the median of the values of all other ranks, for each rank; at least two ranks."""
    ordered = sorted(seconds.values())
    low, high = (len(ordered) - 2) // 2, (len(ordered) - 1) // 2  # the middle without one value

    def without(index: int) -> float:
        return (ordered[low + (low >= index)] + ordered[high + (high >= index)]) / 2

    return {rank: without(bisect.bisect_left(ordered, one)) for rank, one in seconds.items()}
