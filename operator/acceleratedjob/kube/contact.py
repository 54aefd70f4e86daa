"""Whether an API server answers, said when it changes: a wait of hours is two lines in the log."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from acceleratedjob.errors import NoAnswer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Contact:
    """One server's, kept for all requests to it."""

    clock: Callable[[], float] = time.monotonic
    _since: float | None = None  # it has not answered

    def lost(self, error: NoAnswer) -> None:
        """A request was not answered, and will be sent again."""
        if self._since is None:
            self._since = self.clock()
            log.warning("%s; it is asked again until it answers", error)

    def heard(self) -> None:
        """A request was answered, if only by a refusal."""
        if self._since is not None:
            log.warning("the API server answers again, after %.0f s", self.clock() - self._since)
            self._since = None
