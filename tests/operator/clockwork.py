"""An operator whose time, news and luck a test decides: nothing happens by itself."""

import asyncio
import selectors
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import WATCHED, Change, Cluster, Ref, Rendered
from acceleratedjob.controller.controller import Controller
from acceleratedjob.controller.polling.hearing import Target
from acceleratedjob.controller.polling.poller import Ask, Poller
from acceleratedjob.errors import Refused, Unavailable
from acceleratedjob.local.cluster import LocalCluster
from tests.operator.builders import NOW

TICKS = 40  # turns of the loop, in which any pass of a small job ends
KINDS = (names.KIND, *WATCHED)
FATES = ("never done", "unanswered", "refused", "edited")


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time only a test moves on; timers follow it."""

    elapsed = 0.0
    wrong = timedelta()  # of the operator's clock

    def time(self) -> float:
        return self.elapsed

    def now(self) -> datetime:
        """The right time."""
        return NOW + timedelta(seconds=self.elapsed)

    def operators(self) -> datetime:
        """What the operator takes for the time."""
        return self.now() + self.wrong

    def tick(self, times: int = TICKS) -> None:
        """Let the loop turn."""
        self.run_until_complete(_turns(times))


class _Idle(selectors.DefaultSelector):
    """Waits no time; instead, the time passes at once for which it would have to wait."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; wait for it only if no timer is set."""
        found = super().select(timeout and 0)
        if not found:
            self.elapsed += timeout or 0
        return found


class Unhurried(asyncio.SelectorEventLoop):
    """A loop whose time passes only while all of its tasks wait, and then at once.

    So no timer is due before all that can be done is done, however busy the machine is. Whatever
    happens, happens in this loop: nothing waits for a socket or for another thread.
    """

    def __init__(self) -> None:
        self._idle = _Idle()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.elapsed


def unhurried_now() -> datetime:
    """The time of a wall clock that goes as the running loop does, an `Unhurried`."""
    return NOW + timedelta(seconds=asyncio.get_running_loop().time())


async def _turns(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class Fated:
    """A cluster whose next writes meet the fates that a test has set."""

    def __init__(self, store: LocalCluster, job: Ref) -> None:
        self.store = store
        self.job = job
        self.fates: deque[str] = deque()

    async def create(self, manifest: Manifest) -> Any:
        return await self._meet(partial(self.store.create, manifest), is_creation=True)

    async def create_pod(self, pod: Rendered) -> Any:
        return await self._meet(partial(self.store.create_pod, pod), is_creation=True)

    async def delete(self, ref: Ref, **options: Any) -> Any:
        return await self._meet(partial(self.store.delete, ref, **options))

    async def write_status(self, ref: Ref, status: Manifest, **options: Any) -> Any:
        return await self._meet(partial(self.store.write_status, ref, status, **options))

    async def _meet(self, write: Callable[[], Awaitable[Any]], *, is_creation: bool = False) -> Any:
        fate = self.fates.popleft() if self.fates else None
        await asyncio.sleep(0)
        if fate == "never done" or (fate == "refused" and is_creation):
            if fate == "refused":
                raise Refused("exceeded quota", final=False)
            raise Unavailable("no answer")
        if fate == "edited":  # by somebody else, at the same moment: a conflict for the status
            self.store.change(self.job, lambda job: job["metadata"].update(labels={"a": fate}))
        done = await write()
        await asyncio.sleep(0)
        if fate == "unanswered":
            raise Unavailable("no answer")
        return done

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


class Operator:
    """A controller that hears of changes when it is told to, and may be killed between any two."""

    def __init__(self, clock: Clock, cluster: Fated, ask: Ask | None = None) -> None:
        """Start; without `ask` no job is asked for its progress."""
        self.clock = clock
        self.cluster = cluster
        self.answers: deque[int] = deque()  # of the next coordinators that are told to stop
        self.ask = ask
        self._news: defaultdict[str, deque[Change]] = defaultdict(deque)
        self._listening = [clock.create_task(self._listen(kind)) for kind in KINDS]
        self.start()

    async def _listen(self, kind: str) -> None:
        async for change in self.cluster.store.watch(kind):
            self._news[kind].append(change)

    def start(self) -> None:
        """Begin with an empty memory, and list all there is."""
        cluster: Cluster = self.cluster  # type: ignore[assignment]  # the rest is the store's own
        self.controller = Controller(cluster, workers=2, tell=self._told, now=self.clock.operators)
        self._work = [self.clock.create_task(self.controller.work())]
        if self.ask is not None:
            poller = Poller([self.controller], ask=self.ask)
            self._work.append(self.clock.create_task(poller.run()))
        for kind in KINDS:
            self.miss(kind)
        self.clock.tick(5)

    async def _told(self, _target: Target, _request: bytes) -> int:
        """A coordinator answers, or nobody does."""
        await asyncio.sleep(0)
        if not self.answers:
            raise ConnectionRefusedError
        return self.answers.popleft()

    def kill(self) -> None:
        """End in the middle of whatever is under way."""
        for task in self._work:
            task.cancel()
        self.clock.run_until_complete(asyncio.gather(*self._work, return_exceptions=True))

    def close(self) -> None:
        """End for good."""
        self.kill()
        for task in self._listening:
            task.cancel()
        self.clock.run_until_complete(asyncio.gather(*self._listening, return_exceptions=True))

    def hear(self, kind: str, count: int = 1000) -> None:
        """Take in the next changes of a kind."""
        self.clock.tick(5)
        news = self._news[kind]
        for _ in range(min(count, len(news))):
            self._tell(kind, news.popleft())

    def hear_all(self) -> None:
        """Take in all changes of all kinds."""
        for kind in KINDS:
            self.hear(kind)

    def miss(self, kind: str) -> None:
        """Lose the changes of a kind, as after a gap in the watch, and list it again."""
        self.clock.tick(5)
        self._news[kind].clear()
        self._tell(kind, self.cluster.store.snapshot(kind))

    def _tell(self, kind: str, change: Change) -> None:
        self.controller.take(kind, change)
