"""For how long things have been so, by a clock that nobody sets.

A pod whose node is gone is never said to have stopped. When it must have is counted from when its
deletion was first seen here: the API server's clock, which has stamped it, may be far behind ours.
A backoff is over by then, too, if a clock was ahead when the failure was recorded. An operator that
starts counts anew, which only waits longer.
"""

from collections.abc import Hashable, Iterable, Mapping
from datetime import timedelta


class Since:
    """What was seen of all jobs, and when first."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[Hashable, float]] = {}

    def note(
        self, job: str, facts: Iterable[Hashable], seconds: float
    ) -> Mapping[Hashable, timedelta]:
        """Take a look at a job in.

        Args:
            job: its uid.
            facts: what is so now; what is not named is no longer so.
            seconds: now, on a clock that never goes back.

        Returns:
            For how long each has been so.
        """
        known = self._seen.get(job, {})
        self._seen[job] = since = {fact: known.get(fact, seconds) for fact in facts}
        return {fact: timedelta(seconds=seconds - first) for fact, first in since.items()}

    def forget(self, job: str) -> None:
        """The job is gone."""
        self._seen.pop(job, None)
