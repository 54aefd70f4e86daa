"""Numbers for values, so that a state is a tuple of small numbers."""

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from runtime.control.agreement.messages import Down, Up

T = TypeVar("T", bound=Hashable)


class Table(Generic[T]):
    """Values, each with the number of its first appearance."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """The number of a value."""
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


class End(NamedTuple):
    """The end of a connection, as it is seen at the other end of it."""

    def __str__(self) -> str:
        return "the end of the connection"


Item = Up | Down | End
NOTHING = 0  # the number of the empty queue


class Queues:
    """What is under way on a link, first in, first out; each queue has a number."""

    def __init__(self) -> None:
        self._table: Table[tuple[Item, ...]] = Table()
        self._table.number(())
        self._joined: dict[tuple[int, int], int] = {}
        self._split: dict[int, tuple[Item, int]] = {}

    def of(self, *items: Item) -> int:
        """The queue of these items."""
        return self._table.number(items)

    def join(self, queue: int, behind: int) -> int:
        """A queue with another one behind it."""
        if not behind or not queue:
            return queue or behind
        key = queue, behind
        if key not in self._joined:
            values = self._table.values
            self._joined[key] = self._table.number(values[queue] + values[behind])
        return self._joined[key]

    def split(self, queue: int) -> tuple[Item, int]:
        """The first item, and the queue without it."""
        if queue not in self._split:
            first, *rest = self._table.values[queue]
            self._split[queue] = first, self._table.number(tuple(rest))
        return self._split[queue]
