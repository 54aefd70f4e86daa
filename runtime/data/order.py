"""The order of a sampler with random access to each position.

A rank can then compute only its own indices, and can begin at any position without iterating.
"""

from typing import Any, Protocol

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from runtime.data.permutation import KeyedPermutation, LazyPermutation


class Order(Protocol):
    """The order of the indices of one epoch."""

    def __len__(self) -> int: ...

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the indices at some positions: int64 (positions,) to int64 (positions,)."""
        ...

    def state(self) -> torch.Tensor | None:
        """Return the generator state that the order was drawn from.

        None if the order depends on the seed and the epoch only.
        """
        ...

    def settle(self, *, ended: bool) -> None:
        """Set the sampler to the state that it would have after being iterated.

        Args:
            ended: whether it was iterated to the end.
        """
        ...


class Sequential:
    """The order 0, 1, 2, ..."""

    def __init__(self, n: int) -> None:
        """Create the order.

        Args:
            n: the number of indices.
        """
        self._n = n

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the positions themselves."""
        return positions

    def state(self) -> None:
        """Return None: nothing is drawn."""

    def settle(self, *, ended: bool) -> None:
        """Do nothing: a SequentialSampler has no state."""


class SeedableRandomSampler(RandomSampler):
    """A random sampler whose order depends on a seed and the epoch only.

    A full pass increments the epoch. The orders equal those of Accelerate 1.15.

    Attributes:
        initial_seed: the seed, to which the epoch is added.
        epoch: the number of the next epoch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Create the sampler.

        Args:
            *args: the arguments of RandomSampler.
            **kwargs: the arguments of RandomSampler, and `data_seed`: the seed, which must be the
                same on all processes; None uses torch's initial seed.
        """
        data_seed = kwargs.pop("data_seed", None)
        super().__init__(*args, **kwargs)
        self.initial_seed = torch.initial_seed() if data_seed is None else data_seed
        self.epoch = 0

    def __iter__(self) -> Any:
        self.reseed()
        yield from super().__iter__()
        self.set_epoch(self.epoch + 1)

    def reseed(self) -> torch.Generator:
        """Seed the generator for this epoch and return it."""
        if self.generator is None:
            self.generator = torch.Generator()
        generator: torch.Generator = self.generator
        return generator.manual_seed(self.epoch + self.initial_seed)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch."""
        self.epoch = epoch


class KeyedRandomSampler(Sampler[int]):
    """A random sampler that computes each index in constant time, whatever the dataset's size.

    The order differs from torch's for the same seed; see `permutation.KeyedPermutation`.

    Attributes:
        initial_seed: the seed.
        epoch: the number of the next epoch.
    """

    def __init__(self, data_source: Any, *, data_seed: int) -> None:
        """Create the sampler.

        Args:
            data_source: the dataset, which must have a length.
            data_seed: the seed, which must be the same on all processes.
        """
        self.data_source = data_source
        self.initial_seed = data_seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Any:
        order = self.order()
        for start in range(0, len(self), _CHUNK):
            yield from order.take(torch.arange(start, min(start + _CHUNK, len(self)))).tolist()

    def order(self) -> KeyedPermutation:
        """Return the order of this epoch."""
        return KeyedPermutation(len(self), seed=self.initial_seed, epoch=self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch."""
        self.epoch = epoch


_CHUNK = 2**14  # the number of indices that are computed at once


class _Drawn(LazyPermutation):
    """The order that a RandomSampler draws."""

    def __init__(self, sampler: RandomSampler, state: torch.Tensor | None) -> None:
        generator = _generator(sampler, state)
        if state is not None:
            generator.set_state(state)
        super().__init__(len(sampler), generator)
        self._sampler = sampler

    def settle(self, *, ended: bool) -> None:
        if self._sampler.generator is not None:
            super().settle(ended=ended)
        if ended and isinstance(self._sampler, SeedableRandomSampler):
            self._sampler.set_epoch(self._sampler.epoch + 1)


def _generator(sampler: RandomSampler, state: torch.Tensor | None) -> torch.Generator:
    """Return the generator of a sampler's next order, chosen as torch's RandomSampler does."""
    if isinstance(sampler, SeedableRandomSampler):
        return sampler.reseed()
    if sampler.generator is not None:
        generator: torch.Generator = sampler.generator
        return generator
    if state is not None:  # the caller sets the state, so no seed must be drawn
        return torch.Generator()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.Generator().manual_seed(seed)


def is_known(sampler: Any) -> bool:
    """Whether `order_of` supports a sampler; other samplers must be iterated.

    Subclasses are not supported because they may change the order.
    """
    if type(sampler) in (RandomSampler, SeedableRandomSampler):
        return not sampler.replacement and len(sampler) == len(sampler.data_source)
    return type(sampler) in (SequentialSampler, KeyedRandomSampler)


def order_of(sampler: Any, state: torch.Tensor | None = None) -> Order:
    """Return the order of a sampler's next epoch.

    Args:
        sampler: a sampler for which `is_known` is true.
        state: the generator state to draw the order from; None draws a new order.
    """
    if type(sampler) is SequentialSampler:
        return Sequential(len(sampler))
    if isinstance(sampler, KeyedRandomSampler):
        return sampler.order()
    return _Drawn(sampler, state)
