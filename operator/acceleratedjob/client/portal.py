"""Runs coroutines for callers that have no event loop, or one that is busy, as in a notebook."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Put = Callable[[T], Awaitable[None]]
NOTICE_SECONDS = 1.0  # in which an interruption is noticed that came just before the wait
CLEANUP_SECONDS = 30  # for what an interrupted call has to undo
ROOM = 1000  # items that are produced before the caller takes one


class Portal:
    """A thread with an event loop."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="acceleratedjob-client", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns.

        If the caller is interrupted, the coroutine is cancelled, and has cleaned up when this
        returns.

        Raises:
            RuntimeError: the portal is closed.
        """
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the client must be open, but it was closed")
        call = _Call(work)
        try:
            self._loop.call_soon_threadsafe(call.start)
            while not call.ended.acquire(timeout=NOTICE_SECONDS):
                pass
        except BaseException:
            self._loop.call_soon_threadsafe(call.cancel)
            call.ended.acquire(timeout=CLEANUP_SECONDS)
            raise
        return call.result()

    def iterate(self, produce: Callable[[Put[T]], Awaitable[None]]) -> Iterator[T]:
        """Yield what a coroutine puts; it is cancelled if the caller stops early."""
        items: asyncio.Queue[T | _End] = asyncio.Queue(ROOM)
        producing = asyncio.run_coroutine_threadsafe(_produce(produce, items), self._loop)
        try:
            while True:
                for item in self.run(_taken(items)):
                    if isinstance(item, _End):
                        if item.error is not None:
                            raise item.error
                        return
                    yield item
        finally:
            producing.cancel()

    def close(self) -> None:
        """Cancel what runs, and end the thread."""
        if not self._loop.is_closed():
            self.run(_cancel_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True)
class _Call(Generic[T]):
    """A coroutine that a thread waits for; `start` and `cancel` are called in the event loop.

    The caller may be interrupted anywhere, also before it knows that the coroutine has started.
    Python's futures and events do not allow that: an interrupted wait may leave them locked.

    Attributes:
        work: the coroutine.
        ended: a lock that is released when the coroutine has ended.
    """

    work: Coroutine[Any, Any, T]
    ended: threading.Lock = field(default_factory=_held)
    _task: "asyncio.Task[T] | None" = None

    def start(self) -> None:
        """Start the coroutine."""
        self._task = asyncio.get_running_loop().create_task(self.work)
        self._task.add_done_callback(lambda _: self.ended.release())

    def cancel(self) -> None:
        """Cancel the coroutine, if it has been started."""
        if self._task is None:
            self.work.close()
            self.ended.release()
        else:
            self._task.cancel()

    def result(self) -> T:
        """Return what the coroutine has returned, or raise what it has raised."""
        if self._task is None:
            raise AssertionError  # it has ended
        return self._task.result()


@dataclass(frozen=True, slots=True)
class _End:
    """The end of the items, and the error that it is due to."""

    error: Exception | None


async def _produce(
    produce: Callable[[Put[T]], Awaitable[None]], items: "asyncio.Queue[T | _End]"
) -> None:
    end = _End(None)
    try:
        await produce(items.put)
    except Exception as error:  # noqa: BLE001  # the caller raises it
        end = _End(error)
    await items.put(end)


async def _taken(queue: "asyncio.Queue[T]") -> list[T]:
    """Wait for an item, and return it with all that are there."""
    return [await queue.get(), *(queue.get_nowait() for _ in range(queue.qsize()))]


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
