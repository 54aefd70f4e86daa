"""Whose order a prepared data loader follows, and which generator must be in step for it."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from runtime.collectives.objects import broadcast_object_list
from runtime.data.adapter import batch_sampler_of, get_sampler
from runtime.data.order import KeyedRandomSampler, SeedableRandomSampler


def followed_sampler(
    dataloader: DataLoader[Any], *, seedable: bool, seed: int | None, shuffle: str
) -> Any:
    """The sampler whose order is followed; put in the script's loader if it is another one."""
    sampler = get_sampler(dataloader)
    if shuffle not in ("torch", "keyed"):
        sentence = f"shuffle must be torch or keyed, got {shuffle!r}"
        raise ValueError(sentence)
    if not isinstance(sampler, RandomSampler) or not (seedable or shuffle == "keyed"):
        return sampler
    # Agreed on, even if the processes were seeded differently.
    seed = broadcast_object_list([torch.initial_seed() if seed is None else seed])[0]
    made = _keyed(sampler, seed) if shuffle == "keyed" else _seedable(sampler, seed)
    batch_sampler_of(dataloader).sampler = made
    return made


def _seedable(sampler: RandomSampler, seed: int) -> SeedableRandomSampler:
    return SeedableRandomSampler(
        sampler.data_source,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,  # noqa: SLF001  # torch keeps it nowhere else
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
    """The generator that must be in step: an order's, or an iterable dataset's own.

    A random sampler without one gets one.
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
        # Drawn from torch's default generator, as Accelerate 1.15 does: one seed, one order.
        seed = int(torch.empty((), dtype=torch.int64).random_().item())
        holder.generator = torch.Generator().manual_seed(seed)
    generator: torch.Generator = holder.generator
    return generator


def _with_generator(dataloader: DataLoader[Any], sampler: Any) -> Any:
    """What an order is drawn by: the sampler, or a batch sampler of the script's own kind."""
    if isinstance(sampler, SeedableRandomSampler):
        return None
    read = chain(_wrapped(sampler), _wrapped(batch_sampler_of(dataloader)))
    return next((one for one in read if hasattr(one, "generator")), None)


def _wrapped(sampler: Any) -> Iterator[Any]:
    """A sampler, and all those that it takes its numbers from, each once: they may form a ring."""
    seen: dict[int, Any] = {}
    following = [sampler]
    while following:
        one = following.pop()
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        yield one
        following += [getattr(one, name, None) for name in ("batch_sampler", "sampler")]
