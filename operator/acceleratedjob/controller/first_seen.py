"""Records for how long facts have held, by a monotonic clock.

A pod whose node is lost is never reported as stopped. The time by which it must have stopped counts
from when its deletion was first observed here, because the clock of the API server, which set the
timestamp of the deletion, may be far behind ours. A backoff also ends by this clock, in case the
clock was ahead when the failure was recorded. A restarted operator counts from zero, so it waits
longer, never shorter.
"""

from collections.abc import Hashable, Iterable, Mapping
from datetime import timedelta


class Since:
    """The facts of all jobs, each with the time at which it was first observed."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[Hashable, float]] = {}

    def note(
        self, job: str, facts: Iterable[Hashable], seconds: float
    ) -> Mapping[Hashable, timedelta]:
        """Record the facts of a job.

        Args:
            job: the uid of the job.
            facts: all facts that hold now; any other recorded fact is dropped.
            seconds: the current time of a monotonic clock.

        Returns:
            For how long each fact has held.
        """
        known = self._seen.get(job, {})
        self._seen[job] = since = {fact: known.get(fact, seconds) for fact in facts}
        return {fact: timedelta(seconds=seconds - first) for fact, first in since.items()}

    def forget(self, job: str) -> None:
        """Drop a job that is gone."""
        self._seen.pop(job, None)
