"""Threads that also run while the interpreter ends, when executors accept no more calls."""

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")


class Beside(threading.Thread, Generic[Result]):
    """A function that runs in a thread of its own, from now on."""

    def __init__(self, call: Callable[[], Result]) -> None:
        """Start to call a function."""
        super().__init__(name="checkpoint")
        self._call = call
        self._found: list[Result] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the function."""
        try:
            self._found.append(self._call())
        except BaseException as error:  # noqa: BLE001  # `result` raises it
            self._error = error

    def result(self) -> Result:
        """Wait for the function and return its result, or raise its error."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._found[0]


def each(threads: int, operation: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Call a function for each item; after an error no more calls begin.

    Args:
        threads: the number of threads.
        operation: the function.
        items: the items, whose calls begin in order.

    Raises:
        BaseException: the first error, after the running calls have ended.
    """
    waiting: SimpleQueue[Item] = SimpleQueue()
    for item in items:
        waiting.put(item)
    failed = threading.Event()

    def work() -> None:
        while not failed.is_set():
            try:
                operation(waiting.get_nowait())
            except Empty:
                return
            except BaseException:
                failed.set()
                raise

    workers = [Beside(work) for _ in range(min(threads, waiting.qsize()))]
    for worker in workers:
        worker.join()
    for worker in workers:
        worker.result()
