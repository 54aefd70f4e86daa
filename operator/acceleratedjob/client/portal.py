"""Runs coroutines for callers that have no event loop, or one that is busy, as in a notebook."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Put = Callable[[T], Awaitable[None]]
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
        """Return what a coroutine returns; it is cancelled if the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

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
