"""Which jobs to look at, and when: each once, however many events ask for it.

The rules are those of client-go's work queue: a key that is asked for while it is being worked on
is given out again afterwards, never to two workers at once; a later time gives way to an earlier.
"""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

from acceleratedjob import metrics
from acceleratedjob.observe import Refusal
from acceleratedjob.waits import without_names


class WorkQueue:
    """Keys to be worked on, in the order they were asked for."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()  # given to _ready and not taken yet
        self._working: set[str] = set()
        self._again: set[str] = set()  # asked for while worked on
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._since: dict[str, float] = {}  # when each was first asked for
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    def add(self, key: str) -> None:
        """Ask for a key as soon as possible."""
        self._cancel_timer(key)
        self._since.setdefault(key, time.monotonic())
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Ask for a key later, unless it is asked for earlier."""
        loop = asyncio.get_running_loop()
        timer: Any = self._timers.get(key)
        if timer is None or loop.time() + seconds < timer.when():
            self._cancel_timer(key)
            self._timers[key] = loop.call_later(seconds, self.add, key)

    async def take(self) -> str:
        """Wait for a key; it must be given back by `done`."""
        key = await self._ready.get()
        await self._open.wait()
        self._waiting.discard(key)
        self._working.add(key)
        metrics.QUEUE_DELAY.observe(time.monotonic() - self._since.pop(key))
        self._idle.clear()
        return key

    def done(self, key: str) -> None:
        """The work on a key is over for now."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if not self._working:
            self._idle.set()

    def forget(self, key: str) -> None:
        """Nobody will ask for a key again: drop the time at which it was to be given out."""
        self._cancel_timer(key)

    async def close(self) -> None:
        """Give out no more keys, and wait until those given out are done."""
        self._open.clear()
        await self._idle.wait()

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


class Turns:
    """Lets one begin in each turn of the loop, however many are ready.

    A pass that has nothing to write waits for nothing: those of thousands of jobs would be one
    turn, in which neither a lease is renewed nor a probe answered.
    """

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def take(self) -> None:
        """Wait for a turn."""
        async with self._one:
            await asyncio.sleep(0)


HELD_SECONDS = 2.0  # between two tries for a name whose holder goes by itself


class Backoff:
    """How long to wait for a key after errors in a row: doubling, within bounds, in seconds."""

    def __init__(self, initial: float = 1.0, maximum: float = 60.0) -> None:
        self._initial = initial
        self._maximum = maximum
        self._errors: dict[str, int] = {}

    def next(self, key: str) -> float:
        """Count one more error."""
        errors = self._errors[key] = self._errors.get(key, 0) + 1
        doubled: float = self._initial * 2 ** min(errors - 1, 32)
        return min(doubled, self._maximum)

    def reset(self, key: str) -> None:
        """All is well again."""
        self._errors.pop(key, None)


def _sentence(refusal: Refusal) -> tuple[str, bool]:
    """What a refusal says, whichever of the job's pods it is about."""
    return without_names(refusal.message), refusal.final


class Refusals:
    """What the API server has refused of jobs, each tried again later and later.

    All seconds are on a clock that nobody sets.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        # job's uid -> what was refused, when to try again, and since when the same is refused
        self._told: dict[str, tuple[Refusal, float, float]] = {}

    def add(self, uid: str, refusal: Refusal, seconds: float) -> bool:
        """A job's object was refused now; whether that is news.

        What is refused while the job waits was asked for in the same pass, or is a deletion: it
        lengthens no wait, and hides nothing that is final.
        """
        known = self.get(uid, seconds)
        if known is None or not known.retry_in:
            is_new = known is None or _sentence(known) != _sentence(refusal)
            wait = HELD_SECONDS if refusal.holder is not None else self._backoff.next(uid)
            since = seconds if is_new else self._told[uid][2]
            self._told[uid] = (refusal, seconds + wait, since)
            return is_new
        is_news = refusal.final and not known.final
        if is_news:
            self._told[uid] = (refusal, *self._told[uid][1:])
        return is_news

    def get(self, uid: str, seconds: float) -> Refusal | None:
        """What holds a job now, and how long until it is tried again."""
        if uid not in self._told:
            return None
        refusal, retry_at, since = self._told[uid]
        retry_in = timedelta(seconds=max(0.0, retry_at - seconds))
        return replace(refusal, retry_in=retry_in, lasted=timedelta(seconds=seconds - since))

    def forget(self, uid: str) -> None:
        """It was tried again and taken, or the job is gone."""
        self._told.pop(uid, None)
        self._backoff.reset(uid)
