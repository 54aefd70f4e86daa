"""A work queue with the rules of client-go's.

A key that is added several times is taken once. A key that is added while a worker has it can be
taken again when the worker is done, so no two workers have the same key. If a key is added with
several delays, the shortest one applies.
"""

import asyncio
import time
from typing import Any

from acceleratedjob import metrics


class WorkQueue:
    """Keys to work on, in the order in which they were added."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()  # in _ready, and not taken yet
        self._working: set[str] = set()
        self._again: set[str] = set()  # added while a worker has them
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._since: dict[str, float] = {}  # when each key was first added
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    def add(self, key: str) -> None:
        """Add a key."""
        self._cancel_timer(key)
        self._since.setdefault(key, time.monotonic())
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Add a key after a delay, unless it is added before then."""
        loop = asyncio.get_running_loop()
        timer: Any = self._timers.get(key)
        if timer is None or loop.time() + seconds < timer.when():
            self._cancel_timer(key)
            self._timers[key] = loop.call_later(seconds, self.add, key)

    async def take(self) -> str:
        """Wait for a key and take it; `done` must be called for it."""
        key = await self._ready.get()
        await self._open.wait()
        self._waiting.discard(key)
        self._working.add(key)
        metrics.QUEUE_DELAY.observe(time.monotonic() - self._since.pop(key))
        self._idle.clear()
        return key

    def done(self, key: str) -> None:
        """Mark a key as done, so that it can be taken again."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if not self._working:
            self._idle.set()

    def forget(self, key: str) -> None:
        """Cancel the delayed addition of a key."""
        self._cancel_timer(key)

    async def close(self) -> None:
        """Hand out no more keys, and wait until all that were handed out are done."""
        self._open.clear()
        await self._idle.wait()

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


class Turns:
    """Lets one reconcile start per iteration of the event loop.

    A reconcile that writes nothing never awaits anything. Thousands of them would run in the same
    iteration, during which no lease is renewed and no probe is answered.
    """

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def take(self) -> None:
        """Wait for a turn."""
        async with self._one:
            await asyncio.sleep(0)
