"""Decides when the processes of a pod get SIGTERM and SIGKILL. All times are in seconds."""

import math
import signal
from dataclasses import dataclass

FAILING_SECONDS = 6.0  # for the others to fail by themselves: `roll_call.PATIENCE` and a second
TERMINATING_SECONDS = 5.0  # between SIGTERM and SIGKILL without a grace period
_LEAVE_MARGIN = 2.0  # before the end of the grace period, a process that cannot stop leaves
_TERM_MARGIN = 3.0  # before the end of the grace period, processes that attend get SIGTERM
_KILL_MARGIN = 1.0  # and all processes get SIGKILL, so that the launcher still can tell it
_AGAIN_MARGIN = 0.5  # before SIGKILL, those that got SIGTERM get it once more, but not at once
_GIVE_UP_SECONDS = 10.0
_MOST_OF_GRACE = 0.25  # a margin is at most this part of the grace period


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When processes that still run get signals, by a monotonic clock.

    Attributes:
        term_at: when they get SIGTERM; infinite for never.
        kill_at: when they get SIGKILL; infinite for never.
        why: why they get SIGKILL, for people.
    """

    term_at: float = math.inf
    kill_at: float = math.inf
    why: str = ""

    def and_also(self, other: "Deadlines") -> "Deadlines":
        """Return the earlier one of each of the times."""
        why = self.why if self.kill_at <= other.kill_at else other.why
        return Deadlines(min(self.term_at, other.term_at), min(self.kill_at, other.kill_at), why)

    @property
    def again_at(self) -> float:
        """When they get SIGTERM once more.

        A process that has stopped, but whose interpreter has not ended yet, ends by it.
        """
        if math.inf in (self.term_at, self.kill_at):
            return math.inf
        return self.kill_at - min(_AGAIN_MARGIN, (self.kill_at - self.term_at) / 2)

    @property
    def give_up_at(self) -> float:
        """When processes that SIGKILL does not end are given up: they wait for a broken device."""
        return self.kill_at + _GIVE_UP_SECONDS

    def due(self, now: float) -> signal.Signals | None:
        """Return the strongest signal that is due."""
        if now >= self.kill_at:
            return signal.SIGKILL
        return signal.SIGTERM if now >= self.term_at else None

    def requests(self, now: float) -> int:
        """Return how many SIGTERMs are due: 0, 1 or 2."""
        return sum(now >= at for at in {self.term_at, self.again_at})

    def next_after(self, now: float) -> float:
        """Return the first time after `now` at which something else is due; infinite for never."""
        times = (self.term_at, self.again_at, self.kill_at, self.give_up_at)
        return min((at for at in times if at > now), default=math.inf)


def after_failure(now: float) -> Deadlines:
    """Return the deadlines of the other processes when one has failed."""
    at = now + FAILING_SECONDS
    why = "another process had failed before"
    return Deadlines(at, at + TERMINATING_SECONDS, why)


def after_notice(now: float, *, grace: float) -> Deadlines:
    """Return the deadlines when the pod was asked to stop and its processes end by themselves.

    Args:
        now: the time of the notice.
        grace: the time that the pod has from now.
    """
    kill_at = now + grace - min(_KILL_MARGIN, grace * _MOST_OF_GRACE)
    term_at = now + grace - min(_TERM_MARGIN, 2 * grace * _MOST_OF_GRACE)
    why = f"it still ran near the end of the grace period of {grace:g} s"
    return Deadlines(term_at, kill_at, why)


def seconds_to_leave(grace: float) -> float:
    """Return how long after a notice a process may go on that cannot stop at a boundary.

    It leaves by itself just before the launcher would kill it.

    Args:
        grace: the time that the process has from the notice.

    >>> seconds_to_leave(30.0), seconds_to_leave(4.0)
    (28.0, 2.5)
    """
    return grace - min(_LEAVE_MARGIN, 1.5 * grace * _MOST_OF_GRACE)


def after_passing_on(now: float, *, grace: float) -> Deadlines:
    """Return the deadlines when the processes have got another signal that ends programs."""
    why = f"it still ran {grace:g} s after a signal"
    return Deadlines(kill_at=now + grace, why=why)


def for_another_life(now: float, why: str) -> Deadlines:
    """Return the deadlines that end everything now, because another life follows."""
    return Deadlines(now, now, f"the processes of all pods start again, because of {why}")


def at_once(now: float) -> Deadlines:
    """Return the deadlines that end everything now."""
    return Deadlines(now, now, "the launcher was interrupted twice")


def of_the_rest(now: float, *, is_training: bool) -> Deadlines:
    """Return the deadlines of what is left when all processes that were started have ended.

    Args:
        now: the time.
        is_training: whether the training may be among it. A shell that has started the training
            dies of a SIGTERM that only the shell has got.
    """
    kill_at = math.inf if is_training else now + TERMINATING_SECONDS
    return Deadlines(now, kill_at, "all training processes had ended")
