"""Iterable datasets of which each rank, and each of its workers, reads its own part.

The dataset is the same everywhere and everyone goes through it; what is not its own it passes by.
A batch at the end that had to be filled says so itself, as a worker cannot tell it otherwise.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils import worker as torch_worker
from torch.utils.data._utils.pin_memory import pin_memory

from runtime.shard import Layout, Piece, deal


@dataclass(frozen=True, slots=True)
class Short:
    """Something of the last step, in which fewer items than a global batch are real."""

    content: Any  # an element, then the batch that was made of it and others
    real: int  # items of all ranks

    def pin_memory(self, device: Any = None) -> "Short":
        """The same in pinned memory; torch asks for it by this name."""
        return Short(pin_memory(self.content, device), self.real)  # type: ignore[no-untyped-call]  # torch has not typed it


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
        self.start = 0  # elements of all ranks that the next pass leaves out
        self._inner_state: Any = None
        self.marks_short = False  # whether the elements of the last step come as `Short`
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
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

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

    def state_dict(self) -> Any:
        """The inner dataset's own state; None if it keeps none."""
        return self.dataset.state_dict() if hasattr(self.dataset, "state_dict") else None

    def load_state_dict(self, state_dict: Any) -> None:
        """Begin the next pass at the inner dataset's own state."""
        self._inner_state = state_dict

    def __iter__(self) -> Iterator[Any]:
        generator = getattr(self.dataset, "generator", None)
        if isinstance(generator, torch.Generator) and not hasattr(self.dataset, "set_epoch"):
            generator.manual_seed(self.epoch)
        for piece in _own_pieces(self._pieces()):
            is_short = self.marks_short and piece.real < self.layout.global_batch
            yield from (Short(item, piece.real) if is_short else item for item in piece.items)

    def _pieces(self) -> Iterator[Piece]:
        """This rank's, from where the pass is to begin; by the shortest way there."""
        start, self.start = self.start, 0
        state, self._inner_state = self._inner_state, None
        if state is not None:
            first = partial(_head, copy.deepcopy(self.dataset), self.layout.global_batch)
            self.dataset.load_state_dict(state)
            return deal(self.dataset, self.layout, first=first)
        if start and hasattr(self.dataset, "iter_from"):
            first = partial(_head, self.dataset, self.layout.global_batch)
            return deal(self.dataset.iter_from(start), self.layout, first=first)
        return deal(self.dataset, self.layout, start)


def _head(dataset: Any, items: int) -> list[Any]:
    return list(islice(dataset, items))


def _own_pieces(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Those of a rank's pieces that fall to this worker, unless the dataset divides itself.

    Worker i of n has the pieces i, i+n, ...: torch takes batches from its workers in turn, so the
    order is the same for any number of them.
    """
    info = get_worker_info()
    if info is None:
        yield from pieces
        return
    watched = _Watched(info)
    torch_worker._worker_info = watched  # type: ignore[assignment]  # noqa: SLF001  # torch has no other door
    head = list(islice(pieces, 1))
    torch_worker._worker_info = info  # noqa: SLF001
    if watched.was_asked:
        yield from head
        yield from pieces
        return
    if info.id == 0:
        yield from head
    yield from islice(pieces, (info.id - 1) % info.num_workers, None, info.num_workers)


class _Watched:
    """Tells whether a dataset has asked which worker it is in."""

    def __init__(self, info: Any) -> None:
        self._info = info
        self.was_asked = False

    def __getattr__(self, name: str) -> Any:
        self.was_asked = True
        return getattr(self._info, name)


class MarkingCollate:
    """Collates elements; a batch with elements of the last step is `Short` itself."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        """Args: collate: the script's."""
        self.collate = collate

    def __call__(self, elements: Any) -> Any:
        """Args: elements: a list of them; without a batch size, a single one."""
        if isinstance(elements, Short):
            return Short(self.collate(elements.content), elements.real)
        if isinstance(elements, list) and elements and isinstance(elements[0], Short):
            contents = [element.content for element in elements]
            return Short(self.collate(contents), elements[0].real)
        return self.collate(elements)
