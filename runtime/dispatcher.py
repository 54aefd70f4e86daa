"""A data loader that only rank 0 reads; every other rank is sent its own part, and no other.

A step is one message to each rank. It is on its way while the step before it is computed.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import distributed

from runtime import messages
from runtime.adapter import DataLoaderAdapter
from runtime.gradient import GradientState
from runtime.iterable import IterableDatasetShard
from runtime.loader import DataLoaderStateMixin
from runtime.messages import (
    NOTHING_FOLLOWS,
    READING_FAILED,
    First,
    Part,
    Step,
    by_batches,
    by_samples,
)
from runtime.nested import send_to_device, slice_tensors
from runtime.rollcall import Collective
from runtime.state import PartialState
from runtime.streams import kept_random_states
from runtime.workers import Given, Progress


class DataLoaderDispatcher(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader that rank 0 reads for all."""

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
        """Make a data loader.

        Args:
            dataset: the script's.
            split_batches: divide each batch among the ranks, rather than give one to each.
            skip_batches: what each pass leaves out at its beginning.
            use_stateful_dataloader: accepted; each loader has its state.
            _drop_last: leave out what is not a whole batch for each rank.
            _non_blocking: copy to the device without waiting.
            slice_fn: how a batch is divided; takes it, a slice, `process_index`, `num_processes`.
            torch_device_mesh: accepted.
            iteration: the first epoch's number.
            **kwargs: for torch's DataLoader.
        """
        super().__init__(dataset, use_stateful_dataloader, **kwargs)
        self.split_batches = split_batches
        self.skip_batches = skip_batches
        self._drop_last = _drop_last
        self._non_blocking = _non_blocking
        self.slice_fn = slice_fn or slice_tensors
        self.iteration = iteration
        self._read: deque[Progress] = deque()  # how far, behind each step that is not given yet
        self._head: list[Any] = []  # the epoch's first batches, if they had to be read before
        self.state = PartialState()
        self.gradient_state = GradientState()

    @property
    def total_batch_size(self) -> int:
        """Samples of all processes in one step."""
        return self._unit * self.width

    @property
    def width(self) -> int:
        """Batches that are read for one step."""
        return 1 if self.split_batches else self.state.num_processes

    def __len__(self) -> int:
        whole = super().__len__()
        return whole // self.width if self._drop_last else -(-whole // self.width)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        self.begin()
        try:
            self.set_epoch(self.iteration)
            for part in self._parts():
                self._position += self.total_batch_size
                if self._read:  # on rank 0
                    self._progress = self._read.popleft()
                if part.following == NOTHING_FOLLOWS:
                    self.end_of_dataloader = True
                    self.remainder = -1 if part.real is None else part.real
                    self.padding_ranks = part.padding_ranks
                yield send_to_device(part.batch, self.state.device, self._non_blocking)
            self._end_epoch()
        finally:  # also when the loop was left early
            self.end()

    def _parts(self) -> Iterator[Part]:
        """This rank's, one after the other."""
        if self.state.num_processes == 1:
            yield from (Part(one.parts[0], one.real, 0, not one.is_last) for one in self._steps())
            return
        own = None
        if self.state.process_index == 0:
            own = map(messages.encoded, self._steps())
        else:
            self._pass_by()
        channel = Channel(own)
        try:
            while (part := channel.receive()) is not None:
                yield part
        finally:
            channel.close()

    def _steps(self) -> Iterator[Step]:
        """What rank 0 reads, a group of batches at a time and one ahead."""
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
        """The batches of each step."""
        reading = Progress.of(self._progress.state_dict())  # a step or two ahead of what is given
        while group := list(islice(batches, self.width)):
            if self._drop_last and len(group) < self.width:
                return
            contents = [reading.note(batch, self.num_workers) for batch in group]
            self._read.append(Progress.of(reading.state_dict()))
            yield contents

    def _first(self, read: list[Any]) -> First:
        """The batches of the epoch's first step: `read`, if this pass has begun there."""
        if self._head or not self._position or self._has_one_state:
            head = self._head or read
            return lambda: head
        return cache(lambda: self._read_again() or read)

    def _seek(self, resumed: dict[str, Any]) -> None:
        is_late = self._position > 0 and self.state.num_processes > 1 and not self._drop_last
        self._indices.wanted = self.width if is_late else 0
        self._head = []
        is_told = Progress.of(resumed.get("dataset")).state is not None
        if is_late and is_told and self._has_one_state:
            self._head = self._read_again()
        super()._seek(resumed)

    @property
    def _has_one_state(self) -> bool:
        """Whether to read its beginning moves the dataset, until it is told where to go on."""
        has_state = self._is_stream and hasattr(self.dataset, "load_state_dict")
        return has_state and not self.num_workers

    def _read_again(self) -> list[Any]:
        """The epoch's first batches; this pass and all random generators stay where they are."""
        with kept_random_states(), self._at_beginning():
            batches = islice(self._get_iterator(), self.width)
            return [one.content if isinstance(one, Given) else one for one in batches]

    @contextmanager
    def _at_beginning(self) -> Iterator[None]:
        """Within, torch's loader begins with the epoch, and its workers with the same seed."""
        generator: Any = self.generator
        indices: Any = self._indices
        if isinstance(self.dataset, IterableDatasetShard):
            self.dataset.seek(0, Progress())
        self.generator = torch.Generator()
        if self._base_state is not None:
            self.generator.set_state(self._base_state)
        self._indices = indices.head
        try:
            yield
        finally:
            self.generator, self._indices = generator, indices

    def _divided(self, group: list[Any], first: First, *, is_last: bool) -> Step:
        size = self.state.num_processes
        if self.split_batches:
            return by_samples(group, size, first, is_last=is_last, slice_fn=self.slice_fn)
        return by_batches(group, size, first, is_last=is_last, slice_fn=self.slice_fn)


class Channel:
    """Carries messages from rank 0 to all, each while the one before it is worked on.

    If rank 0 cannot read on, the others hear of it, and do not wait for ever.
    """

    def __init__(self, steps: Iterator[list[torch.Tensor]] | None) -> None:
        """Args: steps: rank 0's messages for all ranks; else None."""
        self._steps = steps
        self._error: Exception | None = None
        self._next = self._read()  # rank 0: what is sent next
        length = torch.tensor([self._length()])
        with Collective("dispatch"):
            distributed.broadcast(length, 0)
        self._expected = int(length)
        self._message: torch.Tensor | None = None
        self._work: Any = None
        self._send()

    def _read(self) -> list[torch.Tensor] | None:
        if self._steps is None:
            return None
        try:
            return next(self._steps, None)
        except Exception as error:  # noqa: BLE001  # raised again, when the others know
            self._error = error
            return None

    def _length(self) -> int:
        if self._error is not None:
            return READING_FAILED
        return NOTHING_FOLLOWS if self._next is None else len(self._next[0])

    def _send(self) -> None:
        """Have the next message under way, if there is one."""
        if self._expected in (NOTHING_FOLLOWS, READING_FAILED):
            return
        sent = self._next
        if sent is not None:
            self._next = self._read()
            messages.set_following(sent, self._length())
        self._message = torch.empty(self._expected, dtype=torch.uint8)
        self._work = distributed.scatter(self._message, sent, src=0, async_op=True)

    def receive(self) -> Part | None:
        """This rank's next part; None at the end.

        Raises:
            RuntimeError: rank 0 could not read on; there, its own error.
        """
        if self._expected == READING_FAILED:
            if self._error is not None:
                raise self._error
            sentence = "rank 0 could not read its data loader: its own log says why"
            raise RuntimeError(sentence)
        self.close()
        if self._message is None:
            return None
        part = messages.decoded(self._message)
        self._message = None
        self._expected = part.following
        self._send()
        return part

    def close(self) -> None:
        """Wait for the message that is under way: no other collective may come in between."""
        if self._work is not None:
            with Collective("dispatch"):
                self._work.wait()
            self._work = None
