"""Data loaders that yield one process' shard of the batches on its device."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from runtime.data.adapter import NOTHING, DataLoaderAdapter
from runtime.data.iterable import IterableDatasetShard
from runtime.data.placing import Give, placer
from runtime.data.rng import synchronize_rng_states
from runtime.data.workers import Given, content
from runtime.world.gradient_state import UNKNOWN_REMAINDER, GradientState


class DataLoaderStateMixin:
    """The state that `GradientState` reads from a data loader while it is iterated.

    Attributes:
        end_of_dataloader: whether the last batch has been yielded.
        remainder: the number of samples in the last global batch without those that were added to
            fill it; 0 if it is full, -1 if that is not known or not known yet.
        padding_ranks: the number of ranks at the end that have only repeated samples in the last
            step.
        iteration: the number of the epoch, which a full pass increments.
    """

    end_of_dataloader = False
    remainder = UNKNOWN_REMAINDER
    padding_ranks = 0
    gradient_state: GradientState

    def reset(self) -> None:
        """Reset the state before a new pass."""
        self.end_of_dataloader = False
        self.remainder = UNKNOWN_REMAINDER
        self.padding_ranks = 0

    def begin(self) -> None:
        """Make this the active data loader."""
        self.reset()
        self.gradient_state._add_dataloader(self)  # noqa: SLF001  # Accelerate's name

    def end(self) -> None:
        """Stop being an active data loader."""
        self.gradient_state._remove_dataloader(self)  # noqa: SLF001  # its counterpart


class DataLoaderShard(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader that yields this process' batches on its device.

    While it is iterated, it is the active data loader of `GradientState` and reports when the last
    batch has been yielded. After the loop, also after a `break`, an outer loader is active again.
    """

    def __init__(
        self,
        dataset: Any,
        device: torch.device | None = None,
        rng_types: list[str] | None = None,
        synchronized_generator: torch.Generator | None = None,
        skip_batches: int = 0,
        use_stateful_dataloader: bool = False,
        _drop_last: bool = False,
        _non_blocking: bool = False,
        torch_device_mesh: Any = None,  # noqa: ARG002  # accelerate's signature
        iteration: int = 0,
        **kwargs: Any,
    ) -> None:
        """Create a data loader.

        Args:
            dataset: the script's dataset, or one rank's shard of it.
            device: the device that batches are moved to; None leaves them.
            rng_types: the random generators that are synchronized at the start of each epoch.
            synchronized_generator: the generator that `generator` in `rng_types` stands for.
            skip_batches: the number of batches to skip at the beginning of each pass.
            use_stateful_dataloader: accepted for compatibility; every prepared loader is stateful.
            _drop_last: whether the script's loader drops an incomplete last batch.
            _non_blocking: whether batches are copied to the device without waiting; requires
                pinned memory.
            torch_device_mesh: accepted for compatibility and ignored.
            iteration: the number of the first epoch.
            **kwargs: the other arguments of torch's DataLoader.
        """
        super().__init__(dataset, use_stateful_dataloader, **kwargs)
        self.device = device
        self.rng_types = rng_types
        self.synchronized_generator = synchronized_generator
        self.skip_batches = skip_batches
        self._drop_last = _drop_last
        self._non_blocking = _non_blocking
        self.iteration = iteration

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        if not self.gradient_state.enter(self):
            return
        synchronize_rng_states(self.rng_types or (), self.synchronized_generator)
        self.begin()
        try:
            self.set_epoch(self.iteration)
            for batch in self._batches():
                yield batch
                self.gradient_state.boundary(self, batch)
            self._end_epoch()
        finally:  # also when the loop was left early
            self._following = NOTHING
            self.end()

    def begin(self) -> None:
        """Make this the active data loader, and set `remainder` if it is already known."""
        super().begin()
        shard = self._indices.shard
        if shard is not None and not self._drop_last:
            self.remainder = shard.expected_remainder

    def _batches(self) -> Iterator[Any]:
        """Read one batch ahead, to know when a batch is yielded whether it is the last one."""
        batches = self._started()
        samples = self.total_batch_size
        current, self._head_of_pass = self._head_of_pass, NOTHING
        if current is NOTHING:
            current = next(batches, NOTHING)
        self._resume()
        if current is NOTHING:
            return
        begin = self._begin_to_place()
        give = begin(current)
        for following in batches:
            self._following = following
            give_next = begin(following)
            yield self._given(current, give, samples)
            current, give = following, give_next
        self._reach_end(current)
        yield self._given(current, give, samples)

    def _begin_to_place(self) -> Callable[[Any], Give]:
        """Return the function that takes a batch that was read, and returns what gives it."""
        if self.device is None:
            return lambda batch: partial(content, batch)
        begin = placer(torch.device(self.device), non_blocking=self._non_blocking).begin
        return lambda batch: begin(content(batch))

    @property
    def can_go_back(self) -> bool:
        """Whether a position before the last batch is known: that of a dataset with indices."""
        return not self._is_stream

    def ahead(self) -> Any:
        """Return the batch that was read ahead; see `DataLoaderAdapter.ahead`."""
        return NOTHING if self.num_workers or self._is_stream else self._following

    def _given(self, batch: Any, give: Give, samples: int) -> Any:
        self._samples += samples
        self._noted(batch)
        return give()

    def _reach_end(self, last: Any) -> None:
        self.end_of_dataloader = True
        self._following = NOTHING
        shard = self._indices.shard
        if shard is not None and not self._drop_last:
            self.remainder, self.padding_ranks = shard.remainder, shard.padding_ranks
        if not isinstance(last, Given) or not isinstance(self.dataset, IterableDatasetShard):
            return
        if self.dataset.batch_size is not None:
            self.remainder = last.real
        elif last.real:  # each element is a batch; `real` ranks have their own one
            self.padding_ranks = self.dataset.num_processes - last.real


class SkipDataLoader(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader that skips its first batches."""

    def __init__(
        self,
        dataset: Any,
        skip_batches: int = 0,
        use_stateful_dataloader: bool = False,
        **kwargs: Any,
    ) -> None:
        """Create a data loader.

        Args:
            dataset: the dataset.
            skip_batches: the number of batches to skip at the beginning of each pass.
            use_stateful_dataloader: accepted for compatibility; every prepared loader is stateful.
            **kwargs: the other arguments of torch's DataLoader.
        """
        super().__init__(dataset, use_stateful_dataloader, **kwargs)
        self.skip_batches = skip_batches

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        if not self.gradient_state.enter(self):
            return
        self.begin()
        try:
            for read in self._started():
                self._samples += self.total_batch_size
                batch = self._noted(read)
                yield batch
                self.gradient_state.boundary(self, batch)
        finally:
            self.end()

    def __len__(self) -> int:
        return max(super().__len__() - self.skip_batches, 0)
