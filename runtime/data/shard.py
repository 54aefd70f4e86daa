"""Which positions of an epoch belong to which rank: arithmetic alone, without torch.

One formula gives what Accelerate 1.15's BatchSamplerShard finds by going through all batches of
all ranks. A rank computes its own positions and no others, so its cost does not grow with the
world. Position p of an epoch of n samples stands for sample p % n: past the end it wraps around.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the batches of an epoch are dealt to the ranks.

    Raises:
        ValueError: a batch cannot be split evenly.
    """

    batch_size: int  # of the script's own data loader, >= 1
    world_size: int
    rank: int
    split: bool = False  # each batch is divided among the ranks, rather than given to one
    even: bool = True  # the last global batch is filled by wrapping around
    drop_last: bool = False  # what is not a whole batch is left out

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
        """Samples of all ranks in one step."""
        return self.batch_size if self.split else self.batch_size * self.world_size

    @property
    def own_batch(self) -> int:
        """Samples of this rank in one full step."""
        return self.global_batch // self.world_size


def whole_steps(n: int, layout: Layout, start: int = 0) -> int:
    """Steps in which every rank has a whole batch of its own, `start` samples into the epoch."""
    return max(n - start, 0) // layout.global_batch


def step_span(step: int, layout: Layout, start: int = 0) -> range:
    """This rank's positions in one step, `start` samples into the epoch."""
    first = start + step * layout.global_batch + layout.rank * layout.own_batch
    return range(first, first + layout.own_batch)


def tail_span(n: int, layout: Layout, start: int = 0) -> range | None:
    """This rank's positions in what is left after the whole steps; None if it has none.

    It may reach past n, where the samples wrap around.
    """
    whole = whole_steps(n, layout, start)
    span = step_span(whole, layout, start)
    if layout.drop_last or start + whole * layout.global_batch >= n:
        return None
    if layout.even:
        return span
    return range(span.start, min(span.stop, n)) if span.start < n else None


def spans(n: int, layout: Layout, start: int = 0) -> Iterator[range]:
    """The positions of this rank's batches, in order, for an epoch of `n` samples.

    Args:
        n: samples of the epoch.
        layout: how they are dealt.
        start: samples that all ranks together leave out at the beginning.
    """
    for step in range(whole_steps(n, layout, start)):
        yield step_span(step, layout, start)
    tail = tail_span(n, layout, start)
    if tail is not None:
        yield tail


def count(n: int, layout: Layout, start: int = 0) -> int:
    """How many batches `spans` gives: O(1)."""
    return whole_steps(n, layout, start) + (tail_span(n, layout, start) is not None)


def remainder(n: int, layout: Layout, start: int = 0) -> int:
    """Real samples in the last global batch if it is not a whole one; 0 if all are whole."""
    return 0 if layout.drop_last else max(n - start, 0) % layout.global_batch


@dataclass(frozen=True, slots=True)
class Piece:
    """One rank's share of one step."""

    items: list[Any]  # none, for a rank that has no part of a last step that is not filled
    real: int  # items of all ranks in this step; fewer than a global batch where it was filled


def deal(
    items: Iterable[Any],
    layout: Layout,
    start: int = 0,
    first: Callable[[], Iterable[Any]] | None = None,
) -> Iterator[Piece]:
    """The same as `spans` for items that come one after the other and cannot be counted before.

    An item is taken when it is needed, and none is held for longer than a step; only the first
    global batch is kept, to fill the last one.

    Args:
        items: of the whole epoch, the same on all ranks.
        layout: how they are dealt.
        start: items to pass by.
        first: the epoch's first items, where `items` do not begin with them.
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
