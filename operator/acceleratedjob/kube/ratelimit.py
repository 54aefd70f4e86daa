"""A rate limiter for requests: concurrency, requests per second, and `Retry-After`.

The API server divides its capacity among its clients (priority and fairness), and rejects requests
that exceed the share of a client (429, with seconds in `Retry-After`). The limits here let an
administrator reduce the load from the operator further.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from acceleratedjob.kube.limits import Limit

TRIES = 10  # per request, if the server asks to retry later; as in client-go


@dataclass(slots=True)
class Pace:
    """The rate limiter for all requests of a client.

    Attributes:
        limit: the limits.
        clock: a monotonic clock, in seconds.
    """

    limit: Limit = field(default_factory=Limit)
    clock: Callable[[], float] = time.monotonic
    _due: float = 0.0
    _closed_until: float = 0.0
    _places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.limit.in_flight)

    def hold(self, seconds: float) -> None:
        """Send nothing for some seconds, because the server asks for it."""
        self._closed_until = max(self._closed_until, self.clock() + seconds)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; the block sends it."""
        async with self._places:
            begins, self._due = self.limit.after(self._due, self.clock())
            await self._until(begins)
            yield

    async def _until(self, begins: float) -> None:
        """Wait until a time, or longer if the server asks for it in the meantime."""
        wait = begins - self.clock()
        while wait > 0 or self.clock() < self._closed_until:
            await asyncio.sleep(max(wait, self._closed_until - self.clock(), 0))
            wait = 0
