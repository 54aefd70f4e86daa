"""Iterable datasets of which each rank, and each worker of a rank, reads its own shard.

Every process iterates over the whole dataset, which must be the same on all ranks, and skips the
elements of the others.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from runtime.data.shard import Layout, Piece, deal
from runtime.data.workers import Given, InitFn, Progress, Watched, info_of, informed


@dataclass(frozen=True, slots=True)
class Short:
    """An element of an incomplete last step, which was filled with repeated items.

    Attributes:
        content: the element.
        real: the number of items of all ranks in this step without the repeated ones.
    """

    content: Any
    real: int


class IterableDatasetShard(IterableDataset[Any]):
    """An iterable dataset that yields one rank's shard of another iterable dataset."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        drop_last: bool = False,
        num_processes: int = 1,
        process_index: int = 0,
        split_batches: bool = False,
        *,
        even: bool = True,
    ) -> None:
        """Create the shard of one rank.

        Args:
            dataset: the dataset, which yields the same elements on all ranks.
            batch_size: the batch size of the script's data loader; None if the elements of the
                dataset are batches.
            drop_last: whether to drop an incomplete last global batch.
            num_processes: the world size.
            process_index: this rank.
            split_batches: whether the batch size is that of all ranks together.
            even: whether to fill the last global batch with the first elements of the epoch.

        Raises:
            ValueError: a batch cannot be split evenly.
        """
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.num_processes = num_processes
        self.process_index = process_index
        self.split_batches = split_batches
        self.epoch = 0
        self.marks = False  # whether the elements of an incomplete last step are `Short` objects
        self.worker: int | None = None  # the worker whose stream this is, if there are several
        self.is_divided = False  # whether worker_init_fn has divided the dataset among the workers
        self._start = 0  # the number of elements of all ranks that the next pass skips
        self._progress = Progress()  # the progress at which the next pass begins
        self._epoch_of_all: torch.Tensor | None = None  # the epoch, shared with the workers
        self.layout = Layout(
            batch_size=batch_size or 1,
            world_size=num_processes,
            rank=process_index,
            split=split_batches,
            even=even,
            drop_last=drop_last,
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, also on the dataset if it has `set_epoch`."""
        self.epoch = epoch
        if self._epoch_of_all is not None:
            self._epoch_of_all.fill_(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def share_epoch(self) -> None:
        """Share the epoch number with persistent workers through shared memory."""
        self._epoch_of_all = torch.tensor(self.epoch)
        self._epoch_of_all.share_memory_()  # type: ignore[no-untyped-call]  # torch has not typed it

    def seek(self, start: int, progress: Progress) -> None:
        """Set the position at which the next pass begins.

        Args:
            start: the number of elements of all ranks to skip.
            progress: how far the dataset was read at that position; a new `Progress` if unknown.
        """
        self._start = start
        self._progress = progress

    def marking(self) -> "IterableDatasetShard":
        """Return a copy for one pass of a data loader, which marks incomplete last steps.

        The position set by `seek` moves to the copy.
        """
        reading = copy.copy(self)
        reading.marks = True
        self.seek(0, Progress())
        return reading

    def stream_of(self, worker: int) -> int:
        """Return the number of the worker whose stream a worker of this run continues.

        Torch asks worker 0 for the first batch, so worker 0 continues the stream that is next.
        """
        at = self._progress
        return (at.following + worker) % at.workers if at.workers else worker

    def state_dict(self) -> Any:
        """Return a copy of the inner dataset's state; None if it has no `state_dict` method."""
        if not hasattr(self.dataset, "state_dict"):
            return None
        return copy.deepcopy(self.dataset.state_dict())  # the dataset may change it later

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the inner dataset."""
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        if not self.layout.even:
            return len(self.dataset)
        whole, tail = divmod(len(self.dataset), self.layout.global_batch)
        return (whole + (tail > 0 and not self.layout.drop_last)) * self.layout.own_batch

    def __iter__(self) -> Iterator[Any]:
        if self._epoch_of_all is not None and get_worker_info() is not None:
            self.set_epoch(int(self._epoch_of_all))
        (start, self._start), (at, self._progress) = (self._start, 0), (self._progress, Progress())
        for piece in self._own_pieces(start, at):
            is_short = self.marks and piece.real < self.layout.global_batch
            yield from (Short(item, piece.real) if is_short else item for item in piece.items)

    def _own_pieces(self, start: int, at: Progress) -> Iterator[Piece]:
        """Yield this rank's pieces, or in a worker process the pieces of this worker."""
        info = get_worker_info()
        self.worker = None
        if info is None:
            yield from self._pieces(start, at.state)
            return
        if at.workers or self.is_divided:
            yield from self._stream((at.following + info.id) % info.num_workers, at)
            return
        watched = Watched(info_of(info.id, self.dataset))
        with informed(watched):
            pieces = self._pieces(start, at.state)
            head = list(islice(pieces, 1))
        if watched.asked & {"id", "num_workers"}:  # the dataset divides itself among workers
            self.worker = info.id
            yield from self._pieces(0, None) if start else chain(head, pieces)
        else:
            yield from islice(chain(head, pieces), info.id, None, info.num_workers)

    def _stream(self, worker: int, at: Progress) -> Iterator[Piece]:
        """Yield the pieces of one worker's stream from its saved position."""
        self.worker = worker
        batches, state = at.streams.get(worker, (0, None))
        with informed(info_of(worker, self.dataset)):
            yield from self._pieces(batches * self.layout.global_batch, state)

    def _pieces(self, start: int, state: Any) -> Iterator[Piece]:
        """Yield this rank's pieces from a position, which is reached in the fastest way.

        Args:
            start: the number of items of all ranks to skip; ignored if there is a state.
            state: the dataset's state at the position; None if it is unknown.
        """
        dataset = self._seeded()
        if state is not None:
            dataset.load_state_dict(state)
            return deal(dataset, self.layout, first=self._first)
        if start and hasattr(dataset, "iter_from"):
            return deal(dataset.iter_from(start), self.layout, first=self._first)
        return deal(dataset, self.layout, start)

    def _first(self) -> Iterator[Any]:
        """Return the first items of the epoch, which fill its last step."""
        return islice(self._seeded(), self.layout.global_batch)

    def _seeded(self) -> Any:
        """Return the dataset after seeding its generator for the epoch."""
        generator = getattr(self.dataset, "generator", None)
        if isinstance(generator, torch.Generator) and not hasattr(self.dataset, "set_epoch"):
            generator.manual_seed(self.epoch)
        return self.dataset


@contextmanager
def marked(dataloader: DataLoader[Any]) -> Iterator[None]:
    """Let iterators that are created inside the context return `Given` batches.

    This has no effect unless the dataset is an `IterableDatasetShard`. The loader's attributes are
    restored at the end.
    """
    own = vars(dataloader)  # torch's __setattr__ forbids changing them
    if not isinstance(own["dataset"], IterableDatasetShard):
        yield
        return
    kept = {name: own[name] for name in ("dataset", "collate_fn", "worker_init_fn")}
    shard, init_fn = own["dataset"].marking(), kept["worker_init_fn"]
    own |= {
        "dataset": shard,
        "collate_fn": MarkingCollate(kept["collate_fn"], shard),
        "worker_init_fn": None if init_fn is None else InitFn(init_fn, shard),
    }
    try:
        yield
    finally:
        own |= kept


class MarkingCollate:
    """A collate function that adds what only the reading process knows about a batch."""

    def __init__(self, collate: Callable[[Any], Any], shard: IterableDatasetShard) -> None:
        """Create the collate function.

        Args:
            collate: the script's collate function.
            shard: the dataset that is read in the same process.
        """
        self.collate = collate
        self.shard = shard

    def __call__(self, elements: Any) -> Given:
        """Collate a batch.

        Args:
            elements: a list of elements; a single element if the loader has no batch size.
        """
        real = 0
        if isinstance(elements, Short):
            elements, real = elements.content, elements.real
        elif isinstance(elements, list) and elements and isinstance(elements[0], Short):
            real = elements[0].real
            elements = [element.content for element in elements]
        shard = self.shard
        return Given(self.collate(elements), real, shard.state_dict(), shard.worker)
