"""Iterable datasets of which each rank, and each of its workers, reads its own part.

The dataset is the same everywhere and everyone goes through it; what is not its own it passes by.
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
    """An element of the last step, in which fewer items than a global batch are real."""

    content: Any
    real: int  # items of all ranks


class IterableDatasetShard(IterableDataset[Any]):
    """One rank's elements of an iterable dataset that is the same on all ranks."""

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
        """Shard a dataset.

        Args:
            dataset: gives the same elements on all ranks.
            batch_size: of the script's data loader; None: its elements are batches.
            drop_last: leave out what is not a whole global batch.
            num_processes: of the world.
            process_index: this rank.
            split_batches: the batch size is that of all ranks together.
            even: fill the last global batch with the first elements.

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
        self.marks = False  # whether the elements of the last step come as `Short`
        self.worker: int | None = None  # whose stream this is, where there are several
        self.is_divided = False  # each worker was given a stream of its own from outside
        self._start = 0  # elements of all ranks that the next pass leaves out
        self._progress = Progress()  # where the next pass begins
        self._epoch_of_all: torch.Tensor | None = None
        self.layout = Layout(
            batch_size=batch_size or 1,
            world_size=num_processes,
            rank=process_index,
            split=split_batches,
            even=even,
            drop_last=drop_last,
        )

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset the epoch, if it wants to know."""
        self.epoch = epoch
        if self._epoch_of_all is not None:
            self._epoch_of_all.fill_(epoch)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def share_epoch(self) -> None:
        """Let workers that live on hear of a new epoch, too."""
        self._epoch_of_all = torch.tensor(self.epoch)
        self._epoch_of_all.share_memory_()  # type: ignore[no-untyped-call]  # torch has not typed it

    def seek(self, start: int, progress: Progress) -> None:
        """Have the next pass begin elsewhere.

        Args:
            start: elements of all ranks to leave out.
            progress: how far the dataset was read there, as far as it is known.
        """
        self._start = start
        self._progress = progress

    def marking(self) -> "IterableDatasetShard":
        """The same for one pass of a loader, with marks; a pass of the script's own has none."""
        reading = copy.copy(self)
        reading.marks = True
        self.seek(0, Progress())
        return reading

    def stream_of(self, worker: int) -> int:
        """The worker whose stream a worker goes on with: the first one is asked first."""
        at = self._progress
        return (at.following + worker) % at.workers if at.workers else worker

    def state_dict(self) -> Any:
        """The inner dataset's own state now; None if it keeps none."""
        if not hasattr(self.dataset, "state_dict"):
            return None
        return copy.deepcopy(self.dataset.state_dict())  # it may go on writing into it

    def __getattr__(self, name: str) -> Any:
        """Everything else is the inner dataset's."""
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
        """Those of a rank's pieces that fall to this worker, if there are any."""
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
        if watched.asked & {"id", "num_workers"}:  # it divides itself
            self.worker = info.id
            yield from self._pieces(0, None) if start else chain(head, pieces)
        else:
            yield from islice(chain(head, pieces), info.id, None, info.num_workers)

    def _stream(self, worker: int, at: Progress) -> Iterator[Piece]:
        """All pieces of a worker's own stream, from where it was."""
        self.worker = worker
        batches, state = at.streams.get(worker, (0, None))
        with informed(info_of(worker, self.dataset)):
            yield from self._pieces(batches * self.layout.global_batch, state)

    def _pieces(self, start: int, state: Any) -> Iterator[Piece]:
        """This rank's, by the shortest way to where it begins."""
        dataset = self._seeded()
        if state is not None:
            dataset.load_state_dict(state)
            return deal(dataset, self.layout, first=self._first)
        if start and hasattr(dataset, "iter_from"):
            return deal(dataset.iter_from(start), self.layout, first=self._first)
        return deal(dataset, self.layout, start)

    def _first(self) -> Iterator[Any]:
        """The first items of the epoch, which fill its last step."""
        return islice(self._seeded(), self.layout.global_batch)

    def _seeded(self) -> Any:
        """The dataset, with its own generator as it is when the epoch begins."""
        generator = getattr(self.dataset, "generator", None)
        if isinstance(generator, torch.Generator) and not hasattr(self.dataset, "set_epoch"):
            generator.manual_seed(self.epoch)
        return self.dataset


@contextmanager
def marked(dataloader: DataLoader[Any]) -> Iterator[None]:
    """Within, an iterator that is made of a data loader reads marked elements, if it may.

    The loader keeps the script's own objects.
    """
    own = vars(dataloader)  # torch lets nobody set them
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
    """Collates elements, and notes what only the process that has read them knows."""

    def __init__(self, collate: Callable[[Any], Any], shard: IterableDatasetShard) -> None:
        """Args: collate: the script's; shard: what is read, in the same process."""
        self.collate = collate
        self.shard = shard

    def __call__(self, elements: Any) -> Given:
        """Args: elements: a list of them; without a batch size, a single one."""
        real = 0
        if isinstance(elements, Short):
            elements, real = elements.content, elements.real
        elif isinstance(elements, list) and elements and isinstance(elements[0], Short):
            real = elements[0].real
            elements = [element.content for element in elements]
        shard = self.shard
        return Given(self.collate(elements), real, shard.state_dict(), shard.worker)
