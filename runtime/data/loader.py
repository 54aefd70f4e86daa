"""Data loaders of which each process reads its own part, on its own device."""

from collections.abc import Iterator
from typing import Any

import torch

from runtime.collectives.nested import send_to_device
from runtime.data.adapter import DataLoaderAdapter
from runtime.data.iterable import IterableDatasetShard
from runtime.data.rng import synchronize_rng_states
from runtime.data.workers import Given
from runtime.world.gradient_state import UNKNOWN_REMAINDER, GradientState

_NOTHING = object()


class DataLoaderStateMixin:
    """What a data loader tells `GradientState` while it is iterated.

    Attributes:
        end_of_dataloader: whether the last batch has been given.
        remainder: real samples in the last global batch; 0: it is whole; -1: not known (yet).
        padding_ranks: how many of the last ranks have nothing real in the last batch.
        iteration: epochs that were gone through.
    """

    end_of_dataloader = False
    remainder = UNKNOWN_REMAINDER
    padding_ranks = 0
    gradient_state: GradientState

    def reset(self) -> None:
        """Forget the last pass."""
        self.end_of_dataloader = False
        self.remainder = UNKNOWN_REMAINDER
        self.padding_ranks = 0

    def begin(self) -> None:
        """Become the active data loader."""
        self.reset()
        self.gradient_state._add_dataloader(self)  # noqa: SLF001  # Accelerate's name

    def end(self) -> None:
        """Stop being the active data loader."""
        self.gradient_state._remove_dataloader(self)  # noqa: SLF001  # its counterpart


class DataLoaderShard(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader that gives this process its own batches, on its device.

    While it is iterated it is `GradientState`'s active data loader, and tells when its last batch
    has been given; also after a `break`, when an outer one is active again.
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
        """Make a data loader.

        Args:
            dataset: the script's, or one rank's shard of it.
            device: where batches go; None leaves them.
            rng_types: random generators that all processes set alike at each new iteration.
            synchronized_generator: the one that `generator` among them means.
            skip_batches: what each pass leaves out at its beginning.
            use_stateful_dataloader: accepted; each loader has its state.
            _drop_last: whether the script's own loader leaves out what is not a whole batch.
            _non_blocking: copy to the device without waiting; needs pinned memory.
            torch_device_mesh: accepted.
            iteration: the first epoch's number.
            **kwargs: for torch's DataLoader.
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
        synchronize_rng_states(self.rng_types or (), self.synchronized_generator)
        self.begin()
        try:
            self.set_epoch(self.iteration)
            yield from self._batches()
            self._end_epoch()
        finally:  # also when the loop was left early
            self.end()

    def begin(self) -> None:
        """Become the active data loader; tell what is known of its last batch."""
        super().begin()
        shard = self._indices.shard
        if shard is not None and not self._drop_last:
            self.remainder = shard.expected_remainder

    def _batches(self) -> Iterator[Any]:
        """One batch ahead, so that the last one is known as such when it is given."""
        batches = self._started()
        samples = self.total_batch_size
        current = next(batches, _NOTHING)
        if current is _NOTHING:
            return
        for following in batches:
            yield self._given(current, samples)
            current = following
        self._reach_end(current)
        yield self._given(current, samples)

    def _given(self, batch: Any, samples: int) -> Any:
        self._samples += samples
        batch = self._noted(batch)
        if self.device is None:
            return batch
        return send_to_device(batch, self.device, self._non_blocking)

    def _reach_end(self, last: Any) -> None:
        self.end_of_dataloader = True
        shard = self._indices.shard
        if shard is not None and not self._drop_last:
            self.remainder, self.padding_ranks = shard.remainder, shard.padding_ranks
        if not isinstance(last, Given) or not isinstance(self.dataset, IterableDatasetShard):
            return
        if self.dataset.batch_size is not None:
            self.remainder = last.real
        elif last.real:  # its elements are batches: some ranks have one, and some have none
            self.padding_ranks = self.dataset.num_processes - last.real


class SkipDataLoader(DataLoaderAdapter, DataLoaderStateMixin):
    """A data loader without its first batches."""

    def __init__(
        self,
        dataset: Any,
        skip_batches: int = 0,
        use_stateful_dataloader: bool = False,
        **kwargs: Any,
    ) -> None:
        """Args: skip_batches: what each pass leaves out; the rest is for torch's DataLoader."""
        super().__init__(dataset, use_stateful_dataloader, **kwargs)
        self.skip_batches = skip_batches

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        self.begin()
        try:
            for batch in self._started():
                self._samples += self.total_batch_size
                yield self._noted(batch)
        finally:
            self.end()

    def __len__(self) -> int:
        return max(super().__len__() - self.skip_batches, 0)
