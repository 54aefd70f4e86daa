"""Samplers that give each rank its own part of an order that all ranks share."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, SequentialSampler

from runtime.shard import Layout, count, spans


class SeedableRandomSampler(RandomSampler):
    """A random order that is a function of a seed and the epoch, and of nothing else.

    After each full pass the epoch is the next one.
    """

    def __init__(self, *args: Any, data_seed: int, **kwargs: Any) -> None:
        """Args: data_seed: the same on all processes; the rest is for RandomSampler."""
        super().__init__(*args, **kwargs)
        self.initial_seed = data_seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        if self.generator is None:
            self.generator = torch.Generator()
        self.generator.manual_seed(self.epoch + self.initial_seed)
        yield from super().__iter__()
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch


class BatchSamplerShard(BatchSampler):
    """One rank's batches of a batch sampler.

    torch's own BatchSampler over a sampler of known length is dealt by arithmetic (`shard`); any
    other is gone through, batch by batch. The results are those of Accelerate 1.15.
    """

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
        self.batch_size = getattr(batch_sampler, "batch_size", None)  # type: ignore[assignment]  # None: batches of any size
        self.drop_last = getattr(batch_sampler, "drop_last", False)
        self.seen: int | None = None  # samples of all ranks in this epoch; None: cannot be told
        if split_batches and self.batch_size is None:
            sentence = "split_batches needs a batch sampler with a batch_size"
            raise ValueError(sentence)

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

    def __len__(self) -> int:
        if self._is_plain():
            return count(len(self.sampler), self.layout)
        if self.split_batches:
            return len(self.batch_sampler)
        each, more = divmod(len(self.batch_sampler), self.num_processes)
        if self.drop_last or not more:
            return each
        return each + (self.even_batches or self.process_index < more)

    def _is_plain(self) -> bool:
        """Whether batches are consecutive pieces of a sampler's order, which has a length."""
        return type(self.batch_sampler) is BatchSampler and hasattr(self.sampler, "__len__")

    def __iter__(self) -> Iterator[list[Any]]:
        if self._is_plain():
            return self._by_arithmetic()
        if self.batch_size is None:
            return self._whole_batches()
        return self._by_position()

    def _by_arithmetic(self) -> Iterator[list[Any]]:
        order: Sequence[Any] = (
            range(len(self.sampler))
            if type(self.sampler) is SequentialSampler
            else list(self.sampler)
        )
        n = self.seen = len(order)
        for span in spans(n, self.layout):
            if span.stop <= n:
                yield list(order[span.start : span.stop])
            else:
                yield [order[position % n] for position in span]

    def _by_position(self) -> Iterator[list[Any]]:
        """A batch sampler of its own kind: its batches in a row are the order."""
        order = [index for batch in self.batch_sampler for index in batch]
        self.seen = len(order)
        for span in spans(len(order), self.layout):
            yield [order[position % len(order)] for position in span]

    def _whole_batches(self) -> Iterator[list[Any]]:
        """Batches of any size are dealt as they are, and the first ones again to even out."""
        first: list[list[Any]] = []
        batches = iter(self.batch_sampler)
        while group := list(islice(batches, self.num_processes)):
            first = first or group
            missing = self.num_processes - len(group)
            if missing and self.drop_last:
                return
            if missing and self.even_batches:
                group += [first[i % len(first)] for i in range(missing)]
            if self.process_index < len(group):
                yield group[self.process_index]


class IterableDatasetShard(IterableDataset[Any]):
    """One rank's elements of an iterable dataset that is the same on all ranks."""

    def __init__(self, dataset: Any, layout: Layout) -> None:
        """Args: dataset: gives the same elements on all ranks; layout: how they are dealt."""
        self.dataset = dataset
        self.layout = layout
        self.epoch = 0
        self.seen = 0  # elements of the whole dataset in the last full pass of this process

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset the epoch, if it wants to know."""
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        whole, tail = divmod(len(self.dataset), self.layout.global_batch)
        return (whole + (tail > 0 and not self.layout.drop_last)) * self.layout.own_batch

    def __iter__(self) -> Iterator[Any]:
        generator = getattr(self.dataset, "generator", None)
        if isinstance(generator, torch.Generator) and not hasattr(self.dataset, "set_epoch"):
            generator.manual_seed(self.epoch)
        size, own = self.layout.global_batch, self.layout.own_batch
        mine = slice(self.layout.rank * own, (self.layout.rank + 1) * own)
        elements, self.seen = iter(self.dataset), 0
        first: list[Any] = []
        while group := list(islice(elements, size)):
            first = first or group
            self.seen += len(group)
            if len(group) < size:
                if self.layout.drop_last:
                    return
                group += [first[i % len(first)] for i in range(size - len(group))]
            yield from group[mine]
