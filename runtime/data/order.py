"""The order of a sampler as something that can be asked for any part of it.

A rank then computes its own indices and no others, and begins anywhere at once.
"""

from typing import Any, Protocol

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from runtime.data.permutation import KeyedPermutation, LazyPermutation


class Order(Protocol):
    """The indices of an epoch."""

    def __len__(self) -> int: ...

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """The indices at some positions: int64 (positions,) to int64 (positions,)."""
        ...

    def state(self) -> torch.Tensor | None:
        """What the order was drawn from; None if seed and epoch say it."""
        ...

    def settle(self, *, ended: bool) -> None:
        """Leave the sampler as going through it would; `ended`: to the end."""
        ...


class Sequential:
    """0, 1, 2, ..."""

    def __init__(self, n: int) -> None:
        """Args: n: length."""
        self._n = n

    def __len__(self) -> int:
        return self._n

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """The positions themselves."""
        return positions

    def state(self) -> None:
        """Nothing was drawn."""

    def settle(self, *, ended: bool) -> None:
        """Nothing is left behind."""


class SeedableRandomSampler(RandomSampler):
    """A random order that is a function of a seed and the epoch, and of nothing else.

    After each full pass the epoch is the next one. Same orders as Accelerate 1.15.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Args: data_seed: the same on all processes; the rest is for RandomSampler."""
        data_seed = kwargs.pop("data_seed", None)
        super().__init__(*args, **kwargs)
        self.initial_seed = torch.initial_seed() if data_seed is None else data_seed
        self.epoch = 0

    def __iter__(self) -> Any:
        self.reseed()
        yield from super().__iter__()
        self.set_epoch(self.epoch + 1)

    def reseed(self) -> torch.Generator:
        """Set the generator for this epoch, and return it."""
        if self.generator is None:
            self.generator = torch.Generator()
        generator: torch.Generator = self.generator
        return generator.manual_seed(self.epoch + self.initial_seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch


class KeyedRandomSampler(Sampler[int]):
    """A random order in which every index costs the same, however large the set is.

    Another order than torch's, from the same seed (`permutation.KeyedPermutation`).
    """

    def __init__(self, data_source: Any, *, data_seed: int) -> None:
        """Args: data_source: has a length; data_seed: the same on all processes."""
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
        """This epoch's."""
        return KeyedPermutation(len(self), seed=self.initial_seed, epoch=self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch


_CHUNK = 2**14  # indices at a time


class _Drawn(LazyPermutation):
    """The order that a random sampler draws."""

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
    """What a sampler draws its next order from, as torch's RandomSampler finds it."""
    if isinstance(sampler, SeedableRandomSampler):
        return sampler.reseed()
    if sampler.generator is not None:
        generator: torch.Generator = sampler.generator
        return generator
    if state is not None:  # the seed is not drawn again
        return torch.Generator()
    seed = int(torch.empty((), dtype=torch.int64).random_().item())
    return torch.Generator().manual_seed(seed)


def is_known(sampler: Any) -> bool:
    """Whether the order of a sampler can be asked for; a sampler of another kind is gone through.

    Another kind is also a subclass: it may have an order of its own.
    """
    if type(sampler) in (RandomSampler, SeedableRandomSampler):
        return not sampler.replacement and len(sampler) == len(sampler.data_source)
    return type(sampler) in (SequentialSampler, KeyedRandomSampler)


def order_of(sampler: Any, state: torch.Tensor | None = None) -> Order:
    """The order of a known sampler's next epoch; drawn now, or as it was drawn from a state."""
    if type(sampler) is SequentialSampler:
        return Sequential(len(sampler))
    if isinstance(sampler, KeyedRandomSampler):
        return sampler.order()
    return _Drawn(sampler, state)
