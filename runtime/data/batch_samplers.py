"""Batch samplers that give each rank its own part of an order that all ranks share."""

from collections.abc import Iterator
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler

from runtime.data.order import Order, is_known, order_of
from runtime.data.shard import Layout, count, deal, remainder, step_span, tail_span, whole_steps
from runtime.world.gradient_state import UNKNOWN_REMAINDER

_CHUNK = 2**14  # indices that are computed at a time, once the first batches are out
_GROWTH = 32  # times as many batches at a time as before, until then


def length(sampler: Any) -> int | None:
    """How many indices a sampler gives; None if it does not tell, as one without an end."""
    try:
        return len(sampler)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # also of the script's own
        return None


class BatchSamplerShard(BatchSampler):
    """One rank's batches of a batch sampler.

    torch's own BatchSampler over a sampler whose order is known is dealt by arithmetic (`shard`);
    any other is gone through, batch by batch. The results are those of Accelerate 1.15.

    Attributes:
        remainder: after a full pass, real samples in the last global batch; 0 if it is whole.
        padding_ranks: after a full pass, how many of the last ranks had no real sample in it,
            where batches are dealt whole.
        order_state: what this pass' order was drawn from; None if nothing was drawn.
        wanted: how many of the epoch's first batches the next pass is to keep, wherever it begins.
        head: those that the last pass has kept.
    """

    batch_size: Any  # None: batches of any size

    def __init__(
        self,
        batch_sampler: Any,
        num_processes: int = 1,
        process_index: int = 0,
        split_batches: bool = False,
        even_batches: bool = True,
    ) -> None:
        """Shard a batch sampler.

        Args:
            batch_sampler: gives the same batches on all ranks.
            num_processes: of the world.
            process_index: this rank.
            split_batches: divide each batch among the ranks, rather than deal whole ones.
            even_batches: wrap around at the end, so that all ranks have as many samples.

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
            _ = self.layout  # which checks that batches can be split

    @property
    def sampler(self) -> Any:
        """The sampler whose order is sharded."""
        return getattr(self.batch_sampler, "sampler", None)

    @sampler.setter
    def sampler(self, sampler: Any) -> None:
        self.batch_sampler.sampler = sampler

    @property
    def total_length(self) -> int:
        """Batches of the whole batch sampler."""
        return len(self.batch_sampler)

    @property
    def layout(self) -> Layout:
        """How samples are dealt; needs a batch size."""
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
        """Whether the order is dealt by arithmetic."""
        return type(self.batch_sampler) is BatchSampler and is_known(self.sampler)

    @property
    def expected_remainder(self) -> int:
        """The remainder of a whole pass, as far as it can be told before."""
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
        """This rank's batches, without the first samples of all ranks together.

        Where the order is known nothing is gone through to get there.

        Args:
            start: how many samples to leave out.
            order_state: of the pass that is to be repeated.
            as_tensors: give int64 (samples,) instead of lists, where that is how they are made.
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
        """A sampler of another kind: its indices, as they come."""
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
        """A batch sampler of another kind: its batches are dealt as they are.

        Only at the end is a batch filled, if batches have a size.
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
        """Batches of the batch sampler in one step."""
        return 1 if self.split_batches else self.num_processes

    def _shares(
        self, group: list[list[Any]], first: list[list[Any]], size: int | None, *, is_last: bool
    ) -> Iterator[list[Any]]:
        """This rank's share of one step, if it has one."""
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
        """A rank's share of the last step, which may have too few samples: `each` a rank."""
        whole = each * self.num_processes
        self.remainder = len(indices) % whole
        missing = whole - len(indices) if self.even_batches else 0
        indices = indices + list(islice(cycle(head), missing))
        own = indices[self.process_index * each : (self.process_index + 1) * each]
        if own:
            yield own

    def _divided(self, batch: list[Any], head: list[Any], *, is_last: bool) -> Iterator[list[Any]]:
        """A rank's share of a batch of any size: as many samples as the other ranks, or one more.

        At the end it is filled, so that all have as many; elsewhere if a rank would have none.
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
    """The size of a sampler's batches: the first one's, if another follows.

    A single batch may be cut short: then it is the size that the sampler names.
    """
    real = len(first[0]) if first else named
    return real if len(first) > 1 else max(real, named)


def _is_regular(group: list[list[Any]], size: int) -> bool:
    """Whether all batches of a step have a size; the last one may be cut short."""
    *before, last = group
    return all(len(batch) == size for batch in before) and len(last) <= size


def _listed(blocks: Iterator[torch.Tensor]) -> Iterator[list[int]]:
    for block in blocks:
        yield from block.tolist()


def _blocks(order: Order, layout: Layout, start: int) -> Iterator[torch.Tensor]:
    """One rank's batches by arithmetic: the first alone, then more and more at a time.

    Each int64 (batches, samples).
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
    """A batch sampler without its first batches; one that can begin anywhere does so at once."""

    def __init__(self, batch_sampler: Any, skip_batches: int = 0) -> None:
        """Args: batch_sampler: of any kind; skip_batches: to leave out in each pass."""
        self.batch_sampler = batch_sampler
        self.skip_batches = skip_batches

    def __getattr__(self, name: str) -> Any:
        """Batch size, sampler and all else are the inner one's; it hears of epochs by itself."""
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
        """Batches of the inner batch sampler."""
        return len(self.batch_sampler)

    def __len__(self) -> int:
        return max(len(self.batch_sampler) - self.skip_batches, 0)
