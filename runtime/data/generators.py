"""Find, save and restore the random generators that a data loader draws from.

A checkpoint within a pass has the states from the beginning of the pass; a checkpoint between two
passes has the current states.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler
from runtime.data.iterable import IterableDatasetShard
from runtime.data.rng import get_state, set_state

_SAMPLERS = ("batch_sampler", "sampler")


def links(loader: Any) -> list[Any]:
    """Return the samplers and datasets that a loader reads, through all wrappers, each once."""
    return _walked(loader, (*_SAMPLERS, "dataset"))


def _walked(thing: Any, names: tuple[str, ...]) -> list[Any]:
    """Return all objects that are reachable through the given attributes; cycles are allowed."""
    found: dict[int, Any] = {id(thing): thing}
    stack = [thing]
    while stack:
        one = stack.pop()
        if isinstance(one, IterableDatasetShard):  # it returns its dataset's attributes
            continue
        inner = [getattr(one, name, None) for name in names]
        new = [link for link in inner if link is not None and id(link) not in found]
        found |= {id(link): link for link in new}
        stack += new[::-1]
    return list(found.values())[1:]


def states(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return the states of a loader's generator and of the generators that draw its order.

    A state is None if there is no generator, so that torch's default generator is used.
    """
    own = loader.generator
    return {
        "loader": None if own is None else get_state(own),
        "order": [
            None if holder.generator is None else get_state(holder.generator)
            for holder in _holders(loader)
        ],
    }


def restore(loader: DataLoader[Any], saved: dict[str, Any] | None) -> None:
    """Set the generators of a loader to saved states.

    A sampler without a generator gets one if it had one when the states were saved.

    Args:
        loader: the data loader.
        saved: a return value of `states`; None changes nothing.
    """
    if saved is None:
        return
    if loader.generator is not None and saved["loader"] is not None:
        set_state(loader.generator, saved["loader"])
    for holder, state in zip(_holders(loader), saved["order"], strict=False):
        if state is None:
            continue
        if holder.generator is None:
            holder.generator = torch.Generator()
        set_state(holder.generator, state)


def _holders(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the samplers and the iterable dataset that have an attribute `generator`."""
    for link in _walked(loader, _SAMPLERS):
        is_wrapper = isinstance(link, BatchSamplerShard | SkipBatchSampler)
        if not is_wrapper and _has_generator(link):
            yield link
    dataset: Any = loader.dataset
    inner = dataset.dataset if isinstance(dataset, IterableDatasetShard) else dataset
    if isinstance(inner, IterableDataset) and isinstance(
        getattr(inner, "generator", None), torch.Generator
    ):
        yield inner


def _has_generator(sampler: Any) -> bool:
    return isinstance(getattr(sampler, "generator", ()), torch.Generator | None)
