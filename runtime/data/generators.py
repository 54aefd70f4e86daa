"""The random generators that a data loader draws from: found, saved and restored.

A checkpoint has their states as they were when the pass began; between two passes, as they are.
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
    """Everything that a loader reads from, through all wrappers, each object once."""
    return _walked(loader, (*_SAMPLERS, "dataset"))


def _walked(thing: Any, names: tuple[str, ...]) -> list[Any]:
    """The objects behind some attributes, and behind theirs; they may refer to each other."""
    found: dict[int, Any] = {id(thing): thing}
    stack = [thing]
    while stack:
        one = stack.pop()
        if isinstance(one, IterableDatasetShard):  # it passes everything on to its dataset
            continue
        inner = [getattr(one, name, None) for name in names]
        new = [link for link in inner if link is not None and id(link) not in found]
        found |= {id(link): link for link in new}
        stack += new[::-1]
    return list(found.values())[1:]


def states(loader: DataLoader[Any]) -> dict[str, Any]:
    """The state of each generator of a loader: its own, and those that its order is drawn from.

    An order is drawn from no generator of its own where there is None: then from torch's default.
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
    """Set the generators of a loader to saved states; without any, leave them.

    A sampler without a generator gets one if it had one in the world that was saved.
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
    """Samplers with an attribute `generator`, and an iterable dataset with a generator."""
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
