"""Records when each watch last received something, for the liveness and readiness probes.

Anything that the API server sends counts: a list, an event, a bookmark, the end of a watch, an
error response. Our own requests and timeouts do not count: a connection that drops all packets must
not count as alive.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from acceleratedjob.errors import NoAnswer

log = logging.getLogger(__name__)

IDLE_SHARE = 2 / 3  # of the allowed silence; the timeout of a watch request


class Pulse:
    """The watches, by path."""

    def __init__(
        self,
        paths: Iterable[str],
        *,
        silence: float = 90.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to measure.

        Args:
            paths: the paths of the watches.
            silence: the seconds without any data after which a watch is considered dead.
            clock: a monotonic clock.
        """
        self.silence = silence
        self._clock = clock
        self._heard = dict.fromkeys(paths, clock())
        self._unlisted = set(self._heard)

    @property
    def watch_seconds(self) -> int:
        """The timeout of a watch request, short enough that a quiet watch ends in time."""
        return max(1, int(self.silence * IDLE_SHARE))

    def watched(self, path: str) -> str:
        """Return the watched path at the end of a URL's path; an API server may have a prefix.

        >>> Pulse(("/api/v1/pods",)).watched("/k8s/clusters/c-1/api/v1/pods")
        '/api/v1/pods'
        """
        return next((each for each in self._heard if path.endswith(each)), path)

    def hear(self, path: str) -> None:
        """Record that something was received."""
        if path in self._heard:
            self._heard[path] = self._clock()

    def complete(self, path: str) -> None:
        """Record that all objects were listed."""
        self.hear(path)
        self._unlisted.discard(path)

    @property
    def unlisted(self) -> list[str]:
        """The paths whose objects were not listed yet."""
        return sorted(self._unlisted)

    @property
    def age(self) -> float:
        """The largest number of seconds for which a watch has received nothing."""
        return max(map(self._age, self._heard), default=0)

    @property
    def dead(self) -> dict[str, float]:
        """The paths of the dead watches, with the seconds for which they have received nothing."""
        ages = {path: self._age(path) for path in self._heard}
        return {path: age for path, age in ages.items() if age > self.silence}

    def _age(self, path: str) -> float:
        return self._clock() - self._heard[path]


@dataclass(slots=True)
class Contact:
    """Logs when an API server stops responding, and when it responds again.

    Attributes:
        clock: a monotonic clock, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _since: float | None = None  # when it stopped responding

    def lost(self, error: NoAnswer) -> None:
        """Record a request without a response, which will be retried."""
        if self._since is None:
            self._since = self.clock()
            log.warning("%s; retrying until it answers", error)

    def heard(self) -> None:
        """Record a response, which may be an error response."""
        if self._since is not None:
            log.warning("the API server answers again, after %.0f s", self.clock() - self._since)
            self._since = None
