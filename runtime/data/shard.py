"""Compute which positions of an epoch belong to which rank; this module does not use torch.

A formula gives the result that Accelerate 1.15's BatchSamplerShard finds by iterating over the
batches of all ranks. A rank computes only its own positions, so the cost does not depend on the
world size. Position p of an epoch of n samples is sample p % n: past the end it wraps around.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the batches of an epoch are assigned to the ranks.

    Attributes:
        batch_size: the batch size of the script's data loader, >= 1.
        world_size: the number of ranks, >= 1.
        rank: this rank, in [0, world_size).
        split: whether each batch is divided among the ranks; otherwise it goes to one rank.
        even: whether the last global batch is filled by wrapping around.
        drop_last: whether an incomplete last global batch is dropped.

    Raises:
        ValueError: a batch cannot be split evenly.
    """

    batch_size: int
    world_size: int
    rank: int
    split: bool = False
    even: bool = True
    drop_last: bool = False

    def __post_init__(self) -> None:
        """Check that a batch can be split."""
        if self.split and self.batch_size % self.world_size:
            sentence = (
                f"with split_batches the batch size must be a round multiple of the number of "
                f"processes, got {self.batch_size} and {self.world_size}"
            )
            raise ValueError(sentence)

    @property
    def global_batch(self) -> int:
        """The number of samples of all ranks in one step."""
        return self.batch_size if self.split else self.batch_size * self.world_size

    @property
    def own_batch(self) -> int:
        """The number of samples of this rank in one full step."""
        return self.global_batch // self.world_size


def whole_steps(n: int, layout: Layout, start: int = 0) -> int:
    """Return the number of steps with a full global batch, from position `start` on."""
    return max(n - start, 0) // layout.global_batch


def step_span(step: int, layout: Layout, start: int = 0) -> range:
    """Return this rank's positions in one step; steps are counted from position `start`."""
    first = start + step * layout.global_batch + layout.rank * layout.own_batch
    return range(first, first + layout.own_batch)


def tail_span(n: int, layout: Layout, start: int = 0) -> range | None:
    """Return this rank's positions after the full steps; None if it has none.

    The positions may be >= n, where the samples wrap around.
    """
    whole = whole_steps(n, layout, start)
    span = step_span(whole, layout, start)
    if layout.drop_last or start + whole * layout.global_batch >= n:
        return None
    if layout.even:
        return span
    return range(span.start, min(span.stop, n)) if span.start < n else None


def spans(n: int, layout: Layout, start: int = 0) -> Iterator[range]:
    """Yield the positions of each of this rank's batches, in order.

    Args:
        n: the number of samples of the epoch.
        layout: how they are assigned to the ranks.
        start: the number of samples of all ranks to skip.
    """
    for step in range(whole_steps(n, layout, start)):
        yield step_span(step, layout, start)
    tail = tail_span(n, layout, start)
    if tail is not None:
        yield tail


def count(n: int, layout: Layout, start: int = 0) -> int:
    """Return the number of batches that `spans` yields, in O(1)."""
    return whole_steps(n, layout, start) + (tail_span(n, layout, start) is not None)


def remainder(n: int, layout: Layout, start: int = 0) -> int:
    """Return the number of samples in an incomplete last global batch; 0 if all are full."""
    return 0 if layout.drop_last else max(n - start, 0) % layout.global_batch


@dataclass(frozen=True, slots=True)
class Piece:
    """One rank's items of one step.

    Attributes:
        items: the items of this rank; empty if the step is incomplete and not filled, and this rank
            has none.
        real: the number of items of all ranks in this step, without those that were added to fill
            it.
    """

    items: list[Any]
    real: int


def deal(
    items: Iterable[Any],
    layout: Layout,
    start: int = 0,
    first: Callable[[], Iterable[Any]] | None = None,
) -> Iterator[Piece]:
    """Yield this rank's items for each step, like `spans` but for an iterable of unknown length.

    The items are read lazily, one step at a time. Only the first global batch is kept, to fill the
    last one.

    Args:
        items: the items of the whole epoch, the same on all ranks.
        layout: how they are assigned to the ranks.
        start: the number of items of all ranks to skip.
        first: returns the first items of the epoch; required if `items` does not begin with them.
    """
    left = iter(items)
    if layout.even and first is None:
        kept = list(islice(left, layout.global_batch))
        left = chain(kept, left)
        first = kept.copy
    left = islice(left, start, None)
    own = slice(layout.rank * layout.own_batch, (layout.rank + 1) * layout.own_batch)
    while group := list(islice(left, layout.global_batch)):
        real = len(group)
        missing = layout.global_batch - real
        if missing and layout.drop_last:
            return
        if missing and layout.even and first is not None:
            group += islice(cycle(first()), missing)
        yield Piece(group[own], real)
