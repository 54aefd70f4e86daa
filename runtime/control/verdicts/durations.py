"""How long a rank has stood in a phase, each time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

KEPT = 200  # durations that are remembered
_QUANTILE = 0.99
_MARGIN = 2.0  # how many times longer than ever before a rank may stand


@dataclass(frozen=True, slots=True)
class Durations:
    """How long a rank has stood in a phase.

    Attributes:
        last: the last durations in seconds, at most `KEPT`.
        longest: the longest of all in seconds.
    """

    last: Sequence[float] = ()
    longest: float = 0.0

    def with_one(self, seconds: float) -> "Durations":
        """Return these durations and another one.

        Args:
            seconds: the other duration.

        Raises:
            ValueError: it is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"a duration must be finite and at least 0, got {seconds}")
        return Durations((*self.last, seconds)[-KEPT:], max(self.longest, seconds))

    def limit(self, factor: float) -> float:
        """Return the time that is too long for this phase, in seconds.

        It is `factor` times the 99th percentile, but more than the longest duration so far: what is
        rare, such as one long validation in a thousand steps, does not count in a percentile.

        Args:
            factor: see the description.
        """
        if not self.last:
            return 0.0
        ordered = sorted(self.last)
        index = math.ceil(_QUANTILE * len(ordered)) - 1
        return max(factor * ordered[index], _MARGIN * self.longest)
