"""The sampler that determines a prepared loader's order, and the generator to synchronize."""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler

from runtime.collectives.objects import broadcast_object_list
from runtime.data.order import KeyedRandomSampler, SeedableRandomSampler


def followed_sampler(
    dataloader: DataLoader[Any], *, seedable: bool, seed: int | None, shuffle: str
) -> Any:
    """Return the sampler that determines the order of a prepared data loader.

    A RandomSampler may be replaced, also in the script's loader.

    Args:
        dataloader: the script's data loader.
        seedable: whether to replace a RandomSampler by a SeedableRandomSampler.
        seed: the seed of the replacement; None uses rank 0's torch seed.
        shuffle: `torch`, or `keyed` to replace a RandomSampler by a KeyedRandomSampler.

    Raises:
        ValueError: `shuffle` is unknown, or `keyed` is used with a sampler that does not draw each
            sample once.
    """
    sampler = get_sampler(dataloader)
    if shuffle not in ("torch", "keyed"):
        sentence = f"shuffle must be torch or keyed, got {shuffle!r}"
        raise ValueError(sentence)
    if not isinstance(sampler, _random_samplers()) or not (seedable or shuffle == "keyed"):
        return sampler
    # All processes use rank 0's seed, even if they were seeded differently.
    seed = broadcast_object_list([torch.initial_seed() if seed is None else seed])[0]
    made = _keyed(sampler, seed) if shuffle == "keyed" else _seedable(sampler, seed)
    batch_sampler_of(dataloader).sampler = made
    return made


def _random_samplers() -> tuple[type[RandomSampler], ...]:
    """Return torch's RandomSampler, and that of StatefulDataLoaders, which is no subclass of it."""
    theirs = sys.modules.get("torchdata.stateful_dataloader.sampler")
    return (RandomSampler,) if theirs is None else (RandomSampler, theirs.RandomSampler)


def _seedable(sampler: RandomSampler, seed: int) -> SeedableRandomSampler:
    return SeedableRandomSampler(
        sampler.data_source,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,  # noqa: SLF001  # torch has no public attribute
        generator=sampler.generator,
        data_seed=seed,
    )


def _keyed(sampler: RandomSampler, seed: int) -> KeyedRandomSampler:
    if sampler.replacement or len(sampler) != len(sampler.data_source):
        sentence = "shuffle='keyed' needs a sampler that draws every sample once"
        raise ValueError(sentence)
    return KeyedRandomSampler(sampler.data_source, data_seed=seed)


def synchronized_generator(
    dataloader: DataLoader[Any], sampler: Any, size: int
) -> torch.Generator | None:
    """Return the generator that must have the same state on all processes, if there is one.

    It is the generator of the sampler, or of an iterable dataset. A random sampler without a
    generator gets one.

    Args:
        dataloader: the script's data loader.
        sampler: the sampler that determines the order.
        size: the world size.
    """
    if size == 1:
        return None
    if isinstance(dataloader.dataset, IterableDataset):
        own = getattr(dataloader.dataset, "generator", None)
        return own if isinstance(own, torch.Generator) else None
    holder = _with_generator(dataloader, sampler)
    if holder is None:
        return None
    if holder.generator is None:
        # As in Accelerate 1.15, so that the same seed gives the same order.
        seed = int(torch.empty((), dtype=torch.int64).random_().item())
        holder.generator = torch.Generator().manual_seed(seed)
    generator: torch.Generator = holder.generator
    return generator


def _with_generator(dataloader: DataLoader[Any], sampler: Any) -> Any:
    """Return the sampler or custom batch sampler with a `generator` that draws the order."""
    if isinstance(sampler, SeedableRandomSampler):
        return None
    read = chain(_wrapped(sampler), _wrapped(batch_sampler_of(dataloader)))
    return next((one for one in read if hasattr(one, "generator")), None)


def _wrapped(sampler: Any) -> Iterator[Any]:
    """Yield a sampler and all samplers that it wraps, each once; they may form a cycle."""
    seen: dict[int, Any] = {}
    following = [sampler]
    while following:
        one = following.pop()
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        yield one
        following += [getattr(one, name, None) for name in ("batch_sampler", "sampler")]


def batch_sampler_of(dataloader: DataLoader[Any]) -> Any:
    """Return the loader's batch sampler, which may also be passed as its `sampler`."""
    is_batches = isinstance(dataloader.sampler, BatchSampler)
    return dataloader.sampler if is_batches else dataloader.batch_sampler


def get_sampler(dataloader: DataLoader[Any]) -> Any:
    """Return the sampler that determines a loader's order; None for an iterable dataset."""
    return getattr(batch_sampler_of(dataloader), "sampler", None)
