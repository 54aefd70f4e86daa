"""A schedule of faults on wall time, from a seed.

Faults land on wall time and not on progress: a system that recovers slowly is hit again before it
has trained much, as in life.
"""

import enum
import random
from dataclasses import dataclass

GRACE = 10.0  # seconds from SIGTERM to SIGKILL of a preempted rank
SLOW = 10.0  # seconds that a rank is slow for


class Fault(enum.StrEnum):
    """A kind of fault."""

    KILL = "kill"  # SIGKILL of a rank other than 0
    KILL_FIRST = "kill of rank 0"  # SIGKILL of rank 0
    PREEMPT = "preemption"  # SIGTERM of a rank, and SIGKILL after `GRACE`
    HANG = "hang"  # SIGSTOP of a rank, for ever
    STRAGGLE = "straggler"  # a rank is stopped for half of the time, for `SLOW`


# Of the faults of large clusters; a resize is none, since only two of the systems take one.
WEIGHTS = {
    Fault.KILL: 50,
    Fault.KILL_FIRST: 15,
    Fault.PREEMPT: 15,
    Fault.HANG: 10,
    Fault.STRAGGLE: 5,
}


@dataclass(frozen=True, slots=True, order=True)
class Strike:
    """A fault of a schedule.

    Attributes:
        at: the seconds since the first step.
        fault: its kind.
        rank: the rank that it hits.
    """

    at: float
    fault: Fault
    rank: int


def schedule(seed: int, *, mtbf: float, seconds: float, ranks: int) -> tuple[Strike, ...]:
    """Return the faults of a time; the same for the same arguments.

    The time between two faults has an exponential distribution, as if each were independent of the
    others. A longer time only adds faults at the end.

    Args:
        seed: the seed.
        mtbf: the mean time between two faults, in seconds.
        seconds: the time that the faults fill.
        ranks: the number of ranks, at least 2.

    Raises:
        ValueError: a time is not positive, or there are too few ranks.
    """
    if mtbf <= 0 or seconds <= 0 or ranks < 2:  # noqa: PLR2004  # rank 0, and another
        sentence = f"mtbf and seconds must be positive and ranks at least 2, got {mtbf}, {seconds}"
        raise ValueError(f"{sentence} and {ranks}")
    dice = random.Random(seed)  # noqa: S311  # no secret
    strikes, at = [], dice.expovariate(1 / mtbf)
    while at < seconds:
        fault = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        rank = 0 if fault is Fault.KILL_FIRST else dice.randrange(1, ranks)
        strikes.append(Strike(at, fault, rank))
        at += dice.expovariate(1 / mtbf)
    return tuple(strikes)
