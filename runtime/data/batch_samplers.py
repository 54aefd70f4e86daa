"""Batch samplers that yield one rank's shard of an order that all ranks share."""

from collections.abc import Iterator
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler

from runtime.data.order import Order, is_known, order_of
from runtime.data.shard import Layout, count, deal, remainder, step_span, tail_span, whole_steps
from runtime.world.gradient_state import UNKNOWN_REMAINDER

_CHUNK = 2**14  # the largest number of indices that are computed at once
_GROWTH = 32  # the factor by which the number of batches computed at once grows up to that


def length(sampler: Any) -> int | None:
    """Return the length of a sampler; None if it has none, for example if it is infinite."""
    try:
        return len(sampler)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # a script's class may raise any
        return None


class BatchSamplerShard(BatchSampler):
    """A batch sampler that yields one rank's batches of another batch sampler.

    If the batch sampler is torch's BatchSampler over a sampler with a known order (`is_known`), a
    rank's indices are computed directly (`runtime.data.shard`). Any other batch sampler is iterated
    batch by batch. The results equal those of Accelerate 1.15.

    Attributes:
        batch_size: the batch size of the batch sampler; None if its batches may have any size.
        remainder: after a full pass, the number of samples in the last global batch without those
            that were added to fill it; 0 if it was full.
        padding_ranks: after a full pass in which each rank got whole batches, the number of ranks
            at the end that had only repeated samples in the last step.
        order_state: the generator state that the order of this pass was drawn from; None if nothing
            was drawn.
        wanted: how many of the epoch's first batches the next pass keeps, wherever it begins.
        head: the batches that the last pass has kept.
    """

    batch_size: Any

    def __init__(
        self,
        batch_sampler: Any,
        num_processes: int = 1,
        process_index: int = 0,
        split_batches: bool = False,
        even_batches: bool = True,
    ) -> None:
        """Create the shard of one rank.

        Args:
            batch_sampler: the batch sampler, which yields the same batches on all ranks.
            num_processes: the world size.
            process_index: this rank.
            split_batches: whether each batch is divided among the ranks; otherwise each batch goes
                to one rank.
            even_batches: whether to wrap around at the end, so that all ranks have the same number
                of samples.

        Raises:
            ValueError: batches cannot be split evenly.
        """
        self.batch_sampler = batch_sampler
        self.num_processes = num_processes
        self.process_index = process_index
        self.split_batches = split_batches
        self.even_batches = even_batches
        self.batch_size = getattr(batch_sampler, "batch_size", None)
        self.drop_last = getattr(batch_sampler, "drop_last", False)
        self.remainder = UNKNOWN_REMAINDER
        self.padding_ranks = 0
        self.order_state: torch.Tensor | None = None
        self.wanted = 0
        self.head: list[list[Any]] = []
        if split_batches and self.batch_size is None:
            sentence = "split_batches needs a batch sampler with a batch_size"
            raise ValueError(sentence)
        if self.batch_size is not None:
            _ = self.layout  # raises if batches cannot be split evenly

    @property
    def sampler(self) -> Any:
        """The sampler whose order is sharded."""
        return getattr(self.batch_sampler, "sampler", None)

    @sampler.setter
    def sampler(self, sampler: Any) -> None:
        self.batch_sampler.sampler = sampler

    @property
    def total_length(self) -> int:
        """The number of batches of the whole batch sampler."""
        return len(self.batch_sampler)

    @property
    def layout(self) -> Layout:
        """How samples are assigned to ranks; requires a batch size."""
        return Layout(
            batch_size=self.batch_size,
            world_size=self.num_processes,
            rank=self.process_index,
            split=self.split_batches,
            even=self.even_batches,
            drop_last=self.drop_last,
        )

    @property
    def is_known(self) -> bool:
        """Whether the order is known, so that this rank's indices are computed directly."""
        return type(self.batch_sampler) is BatchSampler and is_known(self.sampler)

    @property
    def expected_remainder(self) -> int:
        """The remainder of a full pass; -1 if it is only known after the pass."""
        samples = length(self.sampler) if type(self.batch_sampler) is BatchSampler else None
        return UNKNOWN_REMAINDER if samples is None else remainder(samples, self.layout)

    def __len__(self) -> int:
        if type(self.batch_sampler) is BatchSampler:
            return count(len(self.sampler), self.layout)
        if self.split_batches:
            return len(self.batch_sampler)
        each, more = divmod(len(self.batch_sampler), self.num_processes)
        if self.drop_last or not more:
            return each
        return each + (self.even_batches or self.process_index < more)

    def __iter__(self) -> Iterator[list[Any]]:
        return self.iter_from(0)

    def iter_from(
        self, start: int, order_state: torch.Tensor | None = None, *, as_tensors: bool = False
    ) -> Iterator[Any]:
        """Iterate over this rank's batches from a position in the epoch.

        If the order is known, the skipped indices are not computed.

        Args:
            start: the number of samples of all ranks to skip.
            order_state: the generator state of the order to repeat; None draws a new order.
            as_tensors: whether to yield int64 tensors (samples,) instead of lists; only has an
                effect if the order is known.
        """
        self.remainder, self.padding_ranks = UNKNOWN_REMAINDER, 0
        if self.is_known:
            return self._by_arithmetic(start, order_state, as_tensors=as_tensors)
        if type(self.batch_sampler) is BatchSampler:
            return self._one_by_one(start)
        return self._whole_batches(start)

    def _by_arithmetic(
        self, start: int, order_state: torch.Tensor | None, *, as_tensors: bool
    ) -> Iterator[Any]:
        order = order_of(self.sampler, order_state)
        self.order_state = order.state()
        ended = False
        try:
            self.head = list(islice(_listed(_blocks(order, self.layout, 0)), self.wanted))
            blocks = _blocks(order, self.layout, start)
            yield from chain.from_iterable(blocks) if as_tensors else _listed(blocks)
            self.remainder = remainder(len(order), self.layout, start)
            ended = True
        finally:
            order.settle(ended=ended)

    def _one_by_one(self, start: int) -> Iterator[list[Any]]:
        """Shard torch's BatchSampler over a sampler with an unknown order, by iterating it."""
        real = 0
        size, items = self.layout.global_batch, iter(self.sampler)
        first = list(islice(items, self.wanted * size))
        self.head = [first[at : at + size] for at in range(0, len(first), size)]
        for piece in deal(chain(first, items), self.layout, start):
            real = piece.real
            if piece.items:
                yield piece.items
        self.remainder = real % self.layout.global_batch

    def _whole_batches(self, start: int) -> Iterator[list[Any]]:
        """Shard a custom batch sampler without changing its batches.

        Only the batches of the last step are filled, and only if the sampler has a batch size.
        """
        batches = iter(self.batch_sampler)
        kept = list(islice(batches, max(self._width, self.wanted, 2)))
        first, self.head = kept[: self._width], kept[: self.wanted]
        size = None if self.batch_size is None else _real_size(kept, self.batch_size)
        passed = start // self.batch_size if self.batch_size else start
        left = islice(chain(kept, batches), passed, None)
        group = list(islice(left, self._width))
        while group:
            following = list(islice(left, self._width))
            yield from self._shares(group, first, size, is_last=not following)
            group = following

    @property
    def _width(self) -> int:
        """The number of the batch sampler's batches in one step."""
        return 1 if self.split_batches else self.num_processes

    def _shares(
        self, group: list[list[Any]], first: list[list[Any]], size: int | None, *, is_last: bool
    ) -> Iterator[list[Any]]:
        """Yield this rank's batch of one step, if it has one."""
        head = list(chain(*first))
        if size is not None and is_last and _is_regular(group, size):
            each = -(-size // self.num_processes) if self.split_batches else size
            indices = list(chain(*group))
            if not self.drop_last or len(indices) == self._width * size:
                yield from self._filled(indices, each, head)
            else:
                self.remainder = 0
            return
        if self.split_batches:
            yield from self._divided(group[0], head, is_last=is_last)
            return
        missing = self._width - len(group)
        if missing and self.drop_last:
            return
        if is_last:
            self.padding_ranks = missing
        if missing and self.even_batches:
            group = group + list(islice(cycle(first), missing))
        if self.process_index < len(group):
            yield group[self.process_index]

    def _filled(self, indices: list[Any], each: int, head: list[Any]) -> Iterator[list[Any]]:
        """Yield this rank's batch of the last step after filling it to `each` samples per rank."""
        whole = each * self.num_processes
        self.remainder = len(indices) % whole
        missing = whole - len(indices) if self.even_batches else 0
        indices = indices + list(islice(cycle(head), missing))
        own = indices[self.process_index * each : (self.process_index + 1) * each]
        if own:
            yield own

    def _divided(self, batch: list[Any], head: list[Any], *, is_last: bool) -> Iterator[list[Any]]:
        """Yield this rank's part of a batch of any size; parts differ by at most one sample.

        With `even_batches` the batch is filled to equal parts in the last step, and in any step in
        which a rank would otherwise get no sample.
        """
        each, more = divmod(len(batch), self.num_processes)
        if more and self.even_batches and (is_last or not each):
            yield from self._filled(batch, each + 1, head)
            return
        start = self.process_index * each + min(self.process_index, more)
        own = batch[start : start + each + (self.process_index < more)]
        if own:
            yield own


def _real_size(first: list[list[Any]], named: int) -> int:
    """Return the actual batch size of a batch sampler.

    The first batch has it if another batch follows. A single batch may be incomplete; then the
    size is at least the sampler's `batch_size`, which is `named`.
    """
    real = len(first[0]) if first else named
    return real if len(first) > 1 else max(real, named)


def _is_regular(group: list[list[Any]], size: int) -> bool:
    """Whether all batches of a step have the given size; the last one may be smaller."""
    *before, last = group
    return all(len(batch) == size for batch in before) and len(last) <= size


def _listed(blocks: Iterator[torch.Tensor]) -> Iterator[list[int]]:
    for block in blocks:
        yield from block.tolist()


def _blocks(order: Order, layout: Layout, start: int) -> Iterator[torch.Tensor]:
    """Compute one rank's batches: the first alone, then growing numbers of batches at once.

    Each tensor is int64 (batches, samples).
    """
    step, steps = 0, whole_steps(len(order), layout, start)
    rows = 1
    own = torch.arange(layout.own_batch)
    while step < steps:
        rows = min(rows, steps - step)
        firsts = step_span(step, layout, start).start + layout.global_batch * torch.arange(rows)
        positions = firsts[:, None] + own  # (rows, own batch)
        yield order.take(positions.flatten()).view(positions.shape)
        step += rows
        rows = min(_GROWTH * rows, max(_CHUNK // layout.own_batch, 1))
    tail = tail_span(len(order), layout, start)
    if tail is not None:
        yield order.take(torch.arange(tail.start, tail.stop) % len(order))[None]


class SkipBatchSampler(BatchSampler):
    """A batch sampler that skips the first batches of another one.

    Skipped batches are not computed if the order is known.
    """

    def __init__(self, batch_sampler: Any, skip_batches: int = 0) -> None:
        """Create the batch sampler.

        Args:
            batch_sampler: the batch sampler to wrap, of any class.
            skip_batches: the number of batches to skip in each pass.
        """
        self.batch_sampler = batch_sampler
        self.skip_batches = skip_batches

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner batch sampler, except `set_epoch`.

        `DataLoaderAdapter.set_epoch` calls the inner sampler's method itself.
        """
        if name in ("batch_sampler", "skip_batches", "set_epoch") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __iter__(self) -> Iterator[list[Any]]:
        if type(self.batch_sampler) is BatchSampler and is_known(self.batch_sampler.sampler):
            whole = BatchSamplerShard(self.batch_sampler, even_batches=False)
            return whole.iter_from(self.skip_batches * whole.layout.global_batch)
        if isinstance(self.batch_sampler, BatchSamplerShard) and self.batch_sampler.batch_size:
            inner = self.batch_sampler
            return inner.iter_from(self.skip_batches * inner.layout.global_batch)
        return islice(self.batch_sampler, self.skip_batches, None)

    @property
    def total_length(self) -> int:
        """The number of batches of the inner batch sampler."""
        return len(self.batch_sampler)

    def __len__(self) -> int:
        return max(len(self.batch_sampler) - self.skip_batches, 0)
