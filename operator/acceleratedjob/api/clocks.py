"""Records since when each replica waits, for each reason that has a time limit.

The times are stored in the status, so that they survive a restart of the operator. Replicas that
wait for the same reason since the same second share an entry.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from acceleratedjob.api.indexes import format_indexes, indexes, parse_indexes
from acceleratedjob.api.reasons import usual_word
from acceleratedjob.api.schema import string
from acceleratedjob.api.times import parse_time

MAX_WAITS = 512  # entries; the time of a replica without an entry starts when one is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Since when some replicas wait for one reason.

    Attributes:
        reason: the reason of the wait.
        since: when the wait began, as the API writes times.
        replicas: the indices of the replicas, such as `0,3-5`.
    """

    reason: Annotated[str, string]
    since: Annotated[str, string]
    replicas: Annotated[str, indexes]


class Clocks:
    """Since when each replica of an attempt waits for which reason."""

    def __init__(self, waits: Iterable[Wait], begun: Mapping[str, datetime]) -> None:
        """Read the entries of a status.

        Args:
            waits: the entries.
            begun: since when any replica waits, by reason; used for a reason without entries,
                because older versions of the operator write no entries.
        """
        self._begun = {usual_word(reason): since for reason, since in begun.items()}
        self._since: dict[tuple[str, int], datetime] = {}
        for wait in waits:
            self._begun.pop(usual_word(wait.reason), None)
            for replica in parse_indexes(wait.replicas):
                self._since[usual_word(wait.reason), replica] = parse_time(wait.since)

    def since(self, reason: str, replica: int) -> datetime | None:
        """Return since when a replica waits for a reason; None if it does not."""
        word = usual_word(reason)
        return self._since.get((word, replica), self._begun.get(word))


def written(clocks: Iterable[tuple[str, int, str]]) -> tuple[Wait, ...]:
    """Return the entries for the status, the oldest first.

    Args:
        clocks: for each wait, its reason, its replica, and when it began, as the API writes times.
    """
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for reason, replica, since in clocks:
        groups[since, usual_word(reason)].append(replica)
    entries = (
        Wait(reason=reason, since=since, replicas=format_indexes(groups[since, reason]))
        for since, reason in sorted(groups)
    )
    return tuple(entries)[:MAX_WAITS]
