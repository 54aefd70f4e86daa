"""When each watch was last heard of: what liveness and readiness are told from.

Heard is what the other side says: a list, an event, a bookmark, the end of a watch, even a
refusal. An attempt of ours is not, and neither is running out of patience: a connection that
swallows everything must not look alive.
"""

import time
from collections.abc import Callable, Iterable

IDLE_SHARE = 2 / 3  # of the silence allowed; a watch without events is begun anew after that


class Pulse:
    """Watches, by the path of what they watch."""

    def __init__(
        self,
        paths: Iterable[str],
        *,
        silence: float = 90.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect to hear from watches, from now on.

        Args:
            paths: of the watches.
            silence: seconds after which a watch is taken for dead.
            clock: monotonic.
        """
        self.silence = silence
        self._clock = clock
        self._heard = dict.fromkeys(paths, clock())
        self._unlisted = set(self._heard)

    @property
    def watch_seconds(self) -> int:
        """How long the server is asked to keep a watch, so that a quiet one is heard of in time."""
        return max(1, int(self.silence * IDLE_SHARE))

    def watched(self, path: str) -> str:
        """What a URL's path is about: an API server may be behind a path of its own.

        >>> Pulse(("/api/v1/pods",)).watched("/k8s/clusters/c-1/api/v1/pods")
        '/api/v1/pods'
        """
        return next((each for each in self._heard if path.endswith(each)), path)

    def hear(self, path: str) -> None:
        """The other side has said something."""
        if path in self._heard:
            self._heard[path] = self._clock()

    def complete(self, path: str) -> None:
        """All objects of a watch are known."""
        self.hear(path)
        self._unlisted.discard(path)

    @property
    def unlisted(self) -> list[str]:
        """Watches that have not told yet what there is."""
        return sorted(self._unlisted)

    @property
    def age(self) -> float:
        """Seconds since the quietest watch was heard of."""
        return max(map(self._age, self._heard), default=0)

    @property
    def dead(self) -> dict[str, float]:
        """Watches that were silent for too long, and for how many seconds."""
        ages = {path: self._age(path) for path in self._heard}
        return {path: age for path, age in ages.items() if age > self.silence}

    def _age(self, path: str) -> float:
        return self._clock() - self._heard[path]
