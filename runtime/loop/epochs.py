"""The iterator of `Accelerator.epochs`."""

import weakref
from collections.abc import Generator, Iterator
from typing import Protocol


class Counting(Protocol):
    """What an iterator over epochs reports to: the loop."""

    def begin(self, epochs: "Epochs") -> None:
        """Note that the first epoch begins.

        Raises:
            RuntimeError: the iterator is not the newest one.
        """

    def go_on(self, epochs: "Epochs") -> None:
        """Note that an epoch has ended; `epochs.next` is the number of the next one.

        Raises:
            RuntimeError: the iterator is not the newest one.
        """


class Epochs(Iterator[int]):
    """The epochs that a call of `Accelerator.epochs` has left.

    Attributes:
        call: the number of the call, from 0.
        total: the number of epochs of the call.
        next: the number of the next epoch.
        is_over: whether there is no epoch left.
    """

    def __init__(self, loop: Counting, call: int, total: int, first: int) -> None:
        """Begin before an epoch.

        Args:
            loop: what is told of the beginning and end of each epoch.
            call: the number of the call.
            total: the number of epochs.
            first: the first epoch to yield, in [0, total].
        """
        self.call, self.total, self.next = call, total, first
        self._loop = loop
        self._has_begun = False
        self.is_over = first >= total
        self._loops: weakref.WeakSet[Generator[int]] = weakref.WeakSet()

    def __iter__(self) -> Iterator[int]:  # noqa: PYI034  # another object than what a variable holds
        """Return an iterator that the `for` of the script holds as long as it runs."""
        loop = self._rest()
        self._loops.add(loop)
        return loop

    def _rest(self) -> Generator[int]:
        while not self.is_over:
            try:
                epoch = next(self)
            except StopIteration:
                return
            yield epoch

    @property
    def is_iterated(self) -> bool:
        """Whether a `for` loop over the epochs is under way: neither at its end, nor left."""
        return not self.is_over and len(self._loops) > 0

    def __len__(self) -> int:
        """Return the number of epochs that were not begun yet."""
        return self.total - self.next - (self._has_begun and not self.is_over)

    def __next__(self) -> int:
        """Return the number of the next epoch; a boundary of the loop.

        Raises:
            StopIteration: all epochs are done.
        """
        if self.is_over:
            raise StopIteration
        if self._has_begun:
            self.next += 1
            self._loop.go_on(self)
        else:
            self._has_begun = True
            self._loop.begin(self)
        if self.next >= self.total:
            self.is_over = True
            raise StopIteration
        return self.next
