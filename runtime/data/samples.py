"""Batches seen as samples: how many they have, some of them, and several batches as one.

A tensor has a row for each sample. A list may have an item for each, such as a name or a dict of
targets; any other list is a part of the batch's structure.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch

from runtime.collectives.nested import concatenate, find_batch_size, honor_type, leaves, map_items
from runtime.world.mappings import remade


def count(batch: Any) -> int:
    """How many samples a batch has: rows of the tensor that is nested least.

    Raises:
        TypeError: it has no tensor.
        ValueError: it has nothing.
    """
    level = [batch]
    while level:
        for one in level:
            if isinstance(one, torch.Tensor):
                return len(one)
        level = list(chain(*map(_items, level)))
    return find_batch_size(batch)  # which says what is missing


def _items(data: Any) -> Any:
    if isinstance(data, Mapping):
        return data.values()
    return data if isinstance(data, list | tuple) else ()


def _is_of_samples(data: Any, samples: int) -> bool:
    """Whether a list has an item for each sample, rather than tensors that have a row for each."""
    if not isinstance(data, list | tuple) or len(data) != samples or len(set(map(type, data))) != 1:
        return False
    tensors = [leaf for leaf in leaves(data) if isinstance(leaf, torch.Tensor)]
    return not tensors or any(not one.dim() or len(one) != samples for one in tensors)


def some(batch: Any, span: slice, samples: int) -> Any:
    """The samples of a slice, out of a batch that has `samples`."""
    if isinstance(batch, torch.Tensor) or _is_of_samples(batch, samples):
        return batch[span]
    return map_items(lambda item: some(item, span, samples), batch)


def together(batches: list[Any], counts: list[int]) -> Any:
    """One batch out of several that have `counts` samples.

    Raises:
        TypeError: they hold something that is neither a tensor nor a list of samples.
    """
    one = batches[0]
    pairs = zip(batches, counts, strict=True)
    if all(_is_of_samples(batch, samples) for batch, samples in pairs):
        return honor_type(one, chain(*batches))
    if isinstance(one, list | tuple):
        columns = zip(*batches, strict=True)
        return honor_type(one, (together(list(column), counts) for column in columns))
    if isinstance(one, Mapping):
        made = {key: together([batch[key] for batch in batches], counts) for key in one}
        return remade(one, made)
    return concatenate(batches)
