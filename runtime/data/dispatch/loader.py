"""A data loader that only rank 0 reads; every other rank receives only its own part.

Each step is one message to each rank, which is sent while the step before is computed.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import torch

from runtime.collectives.nested import send_to_device, slice_tensors
from runtime.data.adapter import DataLoaderAdapter
from runtime.data.dispatch.channel import Channel, Receiver, Sender
from runtime.data.dispatch.messages import First, Received, Step, by_batches, by_samples
from runtime.data.iterable import IterableDatasetShard
from runtime.data.loader import DataLoaderStateMixin
from runtime.data.position import Position
from runtime.data.random_states import kept_random_states
from runtime.data.seekable import Indices
from runtime.data.workers import Given, Progress
from runtime.world.gradient_state import UNKNOWN_REMAINDER, GradientState
from runtime.world.state import PartialState


class DataLoaderDispatcher(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader whose batches rank 0 reads and divides among all ranks."""

    def __init__(
        self,
        dataset: Any,
        split_batches: bool = False,
        skip_batches: int = 0,
        use_stateful_dataloader: bool = False,
        _drop_last: bool = False,
        _non_blocking: bool = False,
        slice_fn: Any = None,
        torch_device_mesh: Any = None,  # noqa: ARG002  # accelerate's signature
        iteration: int = 0,
        **kwargs: Any,
    ) -> None:
        """Create a data loader.

        Args:
            dataset: the script's dataset.
            split_batches: whether each batch is divided among the ranks; otherwise rank 0 reads a
                batch for each rank.
            skip_batches: the number of batches to skip at the beginning of each pass.
            use_stateful_dataloader: accepted for compatibility; every prepared loader is stateful.
            _drop_last: whether to drop the last step if there is not a batch for each rank.
            _non_blocking: whether batches are copied to the device without waiting.
            slice_fn: the function that divides a batch; its arguments are the batch, a slice,
                `process_index` and `num_processes`.
            torch_device_mesh: accepted for compatibility and ignored.
            iteration: the number of the first epoch.
            **kwargs: the other arguments of torch's DataLoader.
        """
        super().__init__(dataset, use_stateful_dataloader, **kwargs)
        self.split_batches = split_batches
        self.skip_batches = skip_batches
        self._drop_last = _drop_last
        self._non_blocking = _non_blocking
        self.slice_fn = slice_fn or slice_tensors
        self.iteration = iteration
        self._read: deque[Progress] = deque()  # the progress after each step not yielded yet
        self._head: list[Any] = []  # the epoch's first batches, if `_seek` has read them
        self.state = PartialState()
        self.gradient_state = GradientState()

    @property
    def total_batch_size(self) -> int:
        """The number of samples of all processes in one step."""
        return self._unit * self.width

    @property
    def width(self) -> int:
        """The number of batches that rank 0 reads for one step."""
        return 1 if self.split_batches else self.state.coordinate.size

    def __len__(self) -> int:
        whole = super().__len__()
        return whole // self.width if self._drop_last else -(-whole // self.width)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        if not self.gradient_state.enter(self):
            return
        self.begin()
        try:
            self.set_epoch(self.iteration)
            for part in self._parts():
                self._resume()
                self._samples += self.total_batch_size
                if self._read:  # on rank 0
                    self._progress = self._read.popleft()
                if part.is_last:
                    self.end_of_dataloader = True
                    self.remainder = UNKNOWN_REMAINDER if part.real is None else part.real
                    self.padding_ranks = part.padding_ranks
                batch = send_to_device(part.batch, self.state.device, self._non_blocking)
                yield batch
                self.gradient_state.boundary(self, batch)
            self._end_epoch()
        finally:  # also when the loop was left early
            self.end()

    def _parts(self) -> Iterator[Received]:
        """Yield this rank's part of each step."""
        if self.state.num_processes == 1:
            yield from (Received(one.parts[0], one.real, 0, one.is_last) for one in self._steps())
            return
        channel: Channel
        if self.state.process_index == 0:
            channel = Sender(self._steps(), self.state.coordinate)
        else:
            self._pass_by()
            channel = Receiver()
        try:
            while (part := channel.receive()) is not None:
                yield part
        finally:
            channel.close()

    def _steps(self) -> Iterator[Step]:
        """Read the steps, one step ahead to know which one is the last."""
        self._read.clear()
        groups = self._groups(self._started())
        group = next(groups, [])
        first = self._first(group)
        while group:
            try:
                following = next(groups, [])
            except Exception:
                yield self._divided(group, first, is_last=False)
                raise
            yield self._divided(group, first, is_last=not following)
            group = following

    def _groups(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
        """Yield the batches of each step."""
        reading = Progress.of(self._progress.state_dict())  # one or two steps ahead of the yielded
        while group := list(islice(batches, self.width)):
            if self._drop_last and len(group) < self.width:
                return
            contents = [reading.note(batch, self.num_workers) for batch in group]
            self._read.append(Progress.of(reading.state_dict()))
            yield contents

    def _first(self, read: list[Any]) -> First:
        """Return a function that returns the batches of the epoch's first step.

        Args:
            read: the first batches of this pass, which are those of the epoch if the pass begins
                with it, or if they cannot be read again.
        """
        if self._head or not self._samples or self._has_one_state:
            head = self._head or read
            return lambda: head
        return cache(lambda: self._read_again() or read)

    def _seek(self, resumed: Position) -> None:
        is_late = self._samples > 0 and self.state.coordinate.size > 1 and not self._drop_last
        self._indices.wanted = self.width if is_late else 0
        self._head = []
        is_told = Progress.of(resumed.dataset).state is not None
        if is_late and is_told and self._has_one_state:
            self._head = self._read_again()
        super()._seek(resumed)

    @property
    def _has_one_state(self) -> bool:
        """Whether reading the epoch's first batches changes the state of the dataset.

        The dataset must then be read before its saved state is loaded.
        """
        has_state = self._is_stream and hasattr(self.dataset, "load_state_dict")
        return has_state and not self.num_workers

    def _read_again(self) -> list[Any]:
        """Read the epoch's first batches again, without effect on this pass or on generators."""
        with kept_random_states(), self._at_beginning():
            batches = islice(self._get_iterator(), self.width)
            return [one.content if isinstance(one, Given) else one for one in batches]

    @contextmanager
    def _at_beginning(self) -> Iterator[None]:
        """Let torch's loader begin at the start of the epoch, with the same workers' seed."""
        generator: Any = self.generator
        indices: Any = self._indices
        if isinstance(self.dataset, IterableDatasetShard):
            self.dataset.seek(0, Progress())
        self.generator = torch.Generator()
        if self._pass.workers is not None:
            self.generator.set_state(self._pass.workers)
        self._indices = Indices(indices.head)
        try:
            yield
        finally:
            self.generator, self._indices = generator, indices

    def _divided(self, group: list[Any], first: First, *, is_last: bool) -> Step:
        size = self.state.coordinate.size
        if self.split_batches:
            return by_samples(group, size, first, is_last=is_last, slice_fn=self.slice_fn)
        return by_batches(group, size, first, is_last=is_last, slice_fn=self.slice_fn)
