"""How often jobs are asked for their progress, and how often it is written.

Both have a budget for the whole operator: with few jobs each is asked and written every few
seconds, with many jobs less often.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NEVER = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How often something is done for each of many jobs.

    Attributes:
        per_second: the largest number a second, for all jobs together.
        at_least: the shortest time between two for one job, in seconds.

    Raises:
        ValueError: a number is not positive.
    """

    per_second: float
    at_least: float

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                sentence = f"{name} must be above 0, got {getattr(self, name)}"
                raise ValueError(sentence)

    def interval(self, jobs: int) -> float:
        """Return the seconds between two for one of so many jobs.

        >>> [Budget(per_second=10, at_least=5).interval(jobs) for jobs in (0, 20, 1000)]
        [5, 5, 125.0]
        """
        return max(self.at_least, jobs / (_SHARE * self.per_second))

    def at_a_time(self, jobs: int, seconds: float) -> int:
        """Return for how many jobs to do it every so many seconds, so that it is done evenly.

        >>> [Budget(per_second=50, at_least=5).at_a_time(jobs, 0.2) for jobs in (0, 20, 1000)]
        [1, 1, 10]
        """
        return max(1, math.ceil(jobs * seconds / (_SHARE * self.interval(jobs))))


_SHARE = 0.8  # of the budget; the rest is for what comes in between, and for catching up
POLLS = Budget(per_second=50, at_least=5)
WRITES = Budget(per_second=8, at_least=4)  # less than for polls, so that each answer is written


def due(
    last: Mapping[str, float], jobs: Iterable[str], now: float, *, interval: float, at_most: int
) -> list[str]:
    """Return the jobs to ask now: those that were not asked for the longest time come first.

    Args:
        last: when each job was last asked.
        jobs: the jobs that can be asked.
        now: the current time, by the same clock.
        interval: the time between two for one job.
        at_most: the largest number of jobs.
    """
    waits = [(last.get(job, NEVER), job) for job in jobs]
    return [job for asked, job in sorted(waits) if now - asked >= interval][:at_most]


class Turns:
    """Who may write what the training says: each job at intervals, and all within the budget.

    A job that may not write yet has a slot, so that all get their turn, and none waits for long.
    """

    def __init__(self, budget: Budget = WRITES) -> None:
        self._budget = budget
        self._last: dict[str, float] = {}
        self._slots: dict[str, float] = {}
        self._free_at = NEVER
        self.jobs = 0

    def take(self, job: str, now: float, *, at_once: bool = False) -> float:
        """Take the turn of a job; return the seconds until it comes, 0 if it is now.

        Args:
            job: the job.
            now: the current time, by a monotonic clock.
            at_once: whether the job need not wait for its interval, but for the budget only.
        """
        wait = self._last.get(job, NEVER) + self.interval - now
        if job not in self._slots:
            if wait > 0 and not at_once:
                return wait
            self._slots[job] = max(now, self._free_at)
            self._free_at = self._slots[job] + 1 / self._budget.per_second
        if now < self._slots[job]:
            return self._slots[job] - now
        self.wrote(job, now)
        return 0.0

    @property
    def interval(self) -> float:
        """The seconds between two writes of a job."""
        return self._budget.interval(self.jobs)

    def is_due(self, job: str, now: float) -> bool:
        """Whether the interval of a job is over."""
        return now - self._last.get(job, NEVER) >= self.interval

    def wrote(self, job: str, now: float) -> None:
        """Note a write, which has said all there was to say."""
        self._slots.pop(job, None)
        self._last[job] = now

    def forget(self, job: str) -> None:
        """Drop a job that is gone."""
        self._slots.pop(job, None)
        self._last.pop(job, None)
