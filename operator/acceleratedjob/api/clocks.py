"""Since when each replica waits, for each reason that has a time limit.

The times are part of the status, so that they survive the operator. Replicas that wait for the same
reason since the same second are one entry.
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

MAX_WAITS = 512  # entries; the clocks of replicas beyond them begin when there is room


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Since when some replicas wait for one reason."""

    reason: Annotated[str, string]
    since: Annotated[str, string]
    replicas: Annotated[str, indexes]  # such as 0,3-5


class Clocks:
    """The clocks of all replicas of an attempt."""

    def __init__(self, waits: Iterable[Wait], begun: Mapping[str, datetime]) -> None:
        """Read them.

        Args:
            waits: entries of the status.
            begun: since when any replica waits for a reason, if no entry has that reason. An older
                operator has written no more.
        """
        self._begun = {usual_word(reason): since for reason, since in begun.items()}
        self._since: dict[tuple[str, int], datetime] = {}
        for wait in waits:
            self._begun.pop(usual_word(wait.reason), None)
            for replica in parse_indexes(wait.replicas):
                self._since[usual_word(wait.reason), replica] = parse_time(wait.since)

    def since(self, reason: str, replica: int) -> datetime | None:
        """Since when a replica waits for a reason; None if it does not."""
        word = usual_word(reason)
        return self._since.get((word, replica), self._begun.get(word))


def written(clocks: Iterable[tuple[str, int, str]]) -> tuple[Wait, ...]:
    """The entries for the status, the oldest first.

    Args:
        clocks: reason, replica and since when, as the API writes it.
    """
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for reason, replica, since in clocks:
        groups[since, usual_word(reason)].append(replica)
    entries = (
        Wait(reason=reason, since=since, replicas=format_indexes(groups[since, reason]))
        for since, reason in sorted(groups)
    )
    return tuple(entries)[:MAX_WAITS]
