"""The index sampler of a loader over a map-style dataset, which can begin at any position."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler

from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler, length
from runtime.data.rng import process_states, set_process_states

if TYPE_CHECKING:
    import torch


class Indices:
    """The index sampler of a data loader, which yields batches of indices or single indices.

    Attributes:
        source: the batch sampler or sampler that torch's loader would iterate.
        inner: the sampler that is iterated; `start` includes the batches that `source` skips.
        shard: the BatchSamplerShard that yields this rank's batches from any position; None if
            `inner` is a sampler of single indices or a custom batch sampler.
        start: the number of samples of all processes that the next pass skips.
        order_state: the generator state of a known order that the next pass repeats; None draws a
            new order.
        drawn_from: the states of the default generators before an unknown order was drawn.
        as_tensors: whether batches may be tensors instead of lists.
        wanted: how many of the epoch's first batches the next pass keeps, wherever it begins.
    """

    def __init__(self, source: Any) -> None:
        """Begin at the start of an epoch.

        Args:
            source: the batch sampler or sampler that torch's loader would iterate.
        """
        self.source = source
        self.start = 0
        self.order_state: torch.Tensor | None = None
        self.drawn_from: dict[str, Any] | None = None
        self.as_tensors = False
        self.wanted = 0
        self._head: list[Any] = []
        self.shard: BatchSamplerShard | None = None
        inner = source.batch_sampler if isinstance(source, SkipBatchSampler) else source
        self.inner = inner
        if type(inner) is BatchSampler and length(inner.sampler) is not None:
            inner = BatchSamplerShard(inner, even_batches=False)
        if isinstance(inner, BatchSamplerShard):
            self.shard = inner

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        # A generator reads the attributes at its first `next`: with workers, torch creates two
        # iterators and uses only the second.
        start, self.start = self.start, 0
        state, self.order_state = self.order_state, None
        before, self.drawn_from = self.drawn_from, None
        if self.shard is not None and self.shard.is_known:
            self.shard.wanted = self.wanted
            yield from self.shard.iter_from(start, state, as_tensors=self.as_tensors)
            return
        self.drawn_from = before or process_states()
        yield from _drawn_again(self._unknown(start), before)

    def _unknown(self, start: int) -> Iterator[Any]:
        """Iterate over an unknown order, whose skipped batches must be drawn as well."""
        if self.shard is not None:
            self.shard.wanted = self.wanted
            yield from self.shard.iter_from(start)
            return
        batches = iter(self.inner)
        self._head = list(islice(batches, self.wanted))
        yield from islice(chain(self._head, batches), start // self.unit, None)

    @property
    def head(self) -> list[Any]:
        """The epoch's first batches that the last pass has kept; see `wanted`."""
        return self._head if self.shard is None else self.shard.head

    @property
    def unit(self) -> int:
        """The number of samples of all processes for each batch of this process.

        If batches have no fixed size, batches are counted instead of samples.
        """
        if self.shard is not None:
            has_size = self.shard.batch_size is not None
            return self.shard.layout.global_batch if has_size else self.shard.num_processes
        return getattr(self.source, "batch_size", None) or 1

    @property
    def skipped(self) -> int:
        """The number of samples of all processes that `source` skips in each pass."""
        return getattr(self.source, "skip_batches", 0) * self.unit


def _drawn_again(batches: Iterator[Any], before: dict[str, Any] | None) -> Iterator[Any]:
    """Draw the first batch, and with it the order, from saved states of the default generators.

    The states are set only for the first batch, because an order is drawn at its beginning. Later
    draws use the current states.

    Args:
        batches: the batches, of which none has been read.
        before: the states to use; None uses the current ones.
    """
    if before is None:
        return batches
    now = process_states()
    set_process_states(before)
    try:
        first = list(islice(batches, 1))
    finally:
        set_process_states(now)
    return chain(first, batches)
