"""How fast requests are sent: so many side by side, so many a second, and none when told to wait.

The API server shares its time among its clients by itself (priority and fairness), and tells one
that it has no time left for (429, with seconds in `Retry-After`). The limit here is for what it
cannot know: how much of its time the cluster's owner wants an operator to take.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

IN_FLIGHT = 64  # requests side by side; more only fills the API server's queues
PER_SECOND = 1000.0  # more than one process sends
BURST = 2000
TRIES = 10  # of a request that is told to come later; client-go's number


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most that is sent, on average and at once."""

    per_second: float = PER_SECOND
    burst: int = BURST
    in_flight: int = IN_FLIGHT

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                sentence = f"{name} must be above 0, got {getattr(self, name)}"
                raise ValueError(sentence)

    def after(self, due: float, now: float) -> tuple[float, float]:
        """When a request may go, and when the one behind it is due: the leaky bucket as a meter.

        Args:
            due: of this request, as the one before it has left it.
            now: on the same clock.
        """
        slack = (self.burst - 1) / self.per_second
        begins = max(due, now)
        return max(begins - slack, now), begins + 1 / self.per_second


@dataclass(slots=True)
class Pace:
    """One client's, kept for all of its requests."""

    limit: Limit = field(default_factory=Limit)
    clock: Callable[[], float] = time.monotonic
    _due: float = 0.0
    _closed_until: float = 0.0
    _places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.limit.in_flight)

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: the server has no time."""
        self._closed_until = max(self._closed_until, self.clock() + seconds)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around a request: wait until it may go."""
        async with self._places:
            begins, self._due = self.limit.after(self._due, self.clock())
            await self._until(begins)
            yield

    async def _until(self, begins: float) -> None:
        """Wait, and longer if the server asks for it meanwhile."""
        wait = begins - self.clock()
        while wait > 0 or self.clock() < self._closed_until:
            await asyncio.sleep(max(wait, self._closed_until - self.clock(), 0))
            wait = 0
