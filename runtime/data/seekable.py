"""The batches of indices that a loader over a dataset with indices reads."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler

from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler, length
from runtime.data.rng import process_states, set_process_states

if TYPE_CHECKING:
    import torch


class Indices:
    """What a loader reads: its batches of indices, from where the next pass is to begin."""

    def __init__(self, source: Any) -> None:
        """Args: source: a batch sampler, or a sampler, as torch's loader has it."""
        self.source = source
        self.start = 0  # samples of all processes to leave out
        self.order_state: torch.Tensor | None = None
        self.drawn_from: dict[str, Any] | None = None  # default generators, for an unknown order
        self.as_tensors = False  # where that is how they are made
        self.wanted = 0  # of the epoch's first batches, to be kept wherever the pass begins
        self._head: list[Any] = []
        self.shard: BatchSamplerShard | None = None  # what deals them, if it can begin anywhere
        inner = source.batch_sampler if isinstance(source, SkipBatchSampler) else source
        self.inner = inner  # what is read; what a source skips is in `start`
        if type(inner) is BatchSampler and length(inner.sampler) is not None:
            inner = BatchSamplerShard(inner, even_batches=False)
        if isinstance(inner, BatchSamplerShard):
            self.shard = inner

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        # A generator: torch makes two iterators where there are workers, and uses the second.
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
        """The batches of an order that has to be gone through."""
        if self.shard is not None:
            self.shard.wanted = self.wanted
            yield from self.shard.iter_from(start)
            return
        batches = iter(self.inner)
        self._head = list(islice(batches, self.wanted))
        yield from islice(chain(self._head, batches), start // self.unit, None)

    @property
    def head(self) -> list[Any]:
        """The epoch's first batches, as many as were wanted."""
        return self._head if self.shard is None else self.shard.head

    @property
    def unit(self) -> int:
        """Samples of all processes in one batch of each; batches, where they are of any size."""
        if self.shard is not None:
            has_size = self.shard.batch_size is not None
            return self.shard.layout.global_batch if has_size else self.shard.num_processes
        return getattr(self.source, "batch_size", None) or 1

    @property
    def skipped(self) -> int:
        """Samples that every pass leaves out."""
        return getattr(self.source, "skip_batches", 0) * self.unit


def _drawn_again(batches: Iterator[Any], before: dict[str, Any] | None) -> Iterator[Any]:
    """Batches up to the first one as they were drawn before, if they were.

    An order is drawn at its beginning: what it draws later comes from the generators as they are.
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
