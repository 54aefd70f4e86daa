"""The timers of an agreement: which there are, how long each runs, and when to try again."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum


class Wait(StrEnum):
    """What a timer bounds."""

    ANSWERS = "answers"  # the coordinator's: until all ranks have answered
    STOP = "stop"  # the coordinator's: until all are at their target, for a stop
    SAVE = "save"  # the same, for a save
    HOLD = "hold"  # a member's: until the coordinator has decided a place
    OUTCOME = "outcome"  # a member's at its target, without a connection: until it is told


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer; it is to run as long as a state has it, and its end is passed to that state.

    Attributes:
        wait: what it bounds.
        round: the round that it belongs to.
    """

    wait: Wait
    round: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each timer runs, in seconds; none is below 5 s, because a busy thread is slow.

    Attributes:
        answers: for `Wait.ANSWERS`.
        save: for `Wait.SAVE`, and for `Wait.STOP` where no deadline is known.
        hold: for `Wait.HOLD`.
        outcome: for `Wait.OUTCOME`; afterwards the rank fails with `ControlLost`.
        fresh: the age up to which a beat counts when ranks are to be asked.
        silence: after which a rank drops a connection on which the coordinator, which says
            something each second, has said nothing: it may be stopped.

    Raises:
        ValueError: a duration is not positive and finite.
    """

    answers: float = 10.0
    save: float = 60.0
    hold: float = 10.0
    outcome: float = 10.0
    fresh: float = 3.0
    silence: float = 10.0

    def __post_init__(self) -> None:
        """Check the durations."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} must be positive and finite, got {value}")

    def seconds(self, wait: Wait, until_deadline: float | None = None) -> float:
        """How long a timer runs.

        Args:
            wait: what it bounds.
            until_deadline: the seconds until the earliest deadline of a stop; None without one.
        """
        if wait is Wait.STOP:
            return self.save if until_deadline is None else max(0.0, until_deadline)
        return float(getattr(self, wait))


LONGEST_BACKOFF = 60  # seconds


def backoff(cancelled: int) -> int:
    """The seconds to wait before the ranks are asked again: 1, 2, 4 ... 60.

    Args:
        cancelled: the number of rounds in a row that were cancelled; 0 means no wait.
    """
    return min(LONGEST_BACKOFF, 2 ** min(cancelled - 1, 6)) if cancelled > 0 else 0
