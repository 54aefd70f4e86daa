"""Injects the faults of a schedule into the processes of a training."""

import heapq
import signal
from collections.abc import Callable, Iterable
from itertools import count

from bench.goodput.outages import Hit
from bench.goodput.schedule import GRACE, SLOW, Fault, Strike

PERIOD = 0.1  # seconds in which a slow rank is stopped and continued once
_FIRST = {
    Fault.KILL: signal.SIGKILL,
    Fault.KILL_FIRST: signal.SIGKILL,
    Fault.PREEMPT: signal.SIGTERM,
    Fault.HANG: signal.SIGSTOP,
    Fault.STRAGGLE: signal.SIGSTOP,
}


def signals(fault: Fault) -> list[tuple[float, signal.Signals]]:
    """Return the signals of a fault, each with the seconds since its begin."""
    found = [(0.0, _FIRST[fault])]
    if fault is Fault.PREEMPT:
        found.append((GRACE, signal.SIGKILL))
    if fault is Fault.STRAGGLE:
        halves = int(2 * SLOW / PERIOD)
        turns = (signal.SIGSTOP, signal.SIGCONT)
        found = [(half * PERIOD / 2, turns[half % 2]) for half in range(halves)]
    return found


class Injector:
    """Sends the signals of a schedule; a fault waits until its rank has a process."""

    def __init__(
        self,
        strikes: Iterable[Strike],
        find: Callable[[int], int | None],
        send: Callable[[Iterable[int], int], None],
    ) -> None:
        """Store the arguments.

        Args:
            strikes: the faults, in order; `at` counts from `began`.
            find: returns the process ID of a rank; None if there is none.
            send: sends a signal to processes.
        """
        self._strikes = list(strikes)[::-1]
        self._find, self._send = find, send
        self._due: list[tuple[float, int, int, signal.Signals]] = []
        self._order = count()
        self.began: float | None = None
        self.hits: list[Hit] = []

    @property
    def waits(self) -> int:
        """The number of faults that are left."""
        return len(self._strikes)

    def tick(self, now: float) -> None:
        """Send what is due.

        Args:
            now: the time by the monotonic clock.
        """
        if self.began is None:
            return
        while self._strikes and self.began + self._strikes[-1].at <= now:
            pid = self._find(self._strikes[-1].rank)
            if pid is None:
                break
            self._begin(self._strikes.pop(), pid, now)
        while self._due and self._due[0][0] <= now:
            _, _, pid, number = heapq.heappop(self._due)
            self._send([pid], number)

    def _begin(self, strike: Strike, pid: int, now: float) -> None:
        self.hits.append(Hit(now, strike, pid))
        for after, number in signals(strike.fault):
            heapq.heappush(self._due, (now + after, next(self._order), pid, number))
