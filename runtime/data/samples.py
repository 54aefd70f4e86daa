"""Count, slice and concatenate the samples of batches.

A tensor has a row for each sample. A list may have an item for each sample, for example a name or a
dict of targets; any other list is part of the batch's structure.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch

from runtime.collectives.nested import concatenate, find_batch_size, honor_type, leaves, map_items
from runtime.world.mappings import remade


def count(batch: Any) -> int:
    """Return the number of samples of a batch: the rows of its least nested tensor.

    Raises:
        TypeError: the batch has no tensor.
        ValueError: the batch is empty.
    """
    level = [batch]
    while level:
        for one in level:
            if isinstance(one, torch.Tensor):
                return len(one)
        level = list(chain(*map(_items, level)))
    return find_batch_size(batch)  # raises the error


def _items(data: Any) -> Any:
    if isinstance(data, Mapping):
        return data.values()
    return data if isinstance(data, list | tuple) else ()


def _is_of_samples(data: Any, samples: int) -> bool:
    """Whether a list has one item per sample, rather than tensors with one row per sample."""
    if not isinstance(data, list | tuple) or len(data) != samples or len(set(map(type, data))) != 1:
        return False
    tensors = [leaf for leaf in leaves(data) if isinstance(leaf, torch.Tensor)]
    return not tensors or any(not one.dim() or len(one) != samples for one in tensors)


def some(batch: Any, span: slice, samples: int) -> Any:
    """Return a slice of the samples of a batch.

    Args:
        batch: the batch.
        span: the slice.
        samples: the number of samples of the batch.
    """
    if isinstance(batch, torch.Tensor) or _is_of_samples(batch, samples):
        return batch[span]
    return map_items(lambda item: some(item, span, samples), batch)


def together(batches: list[Any], counts: list[int]) -> Any:
    """Concatenate several batches.

    Args:
        batches: the batches, which must have the same structure.
        counts: the number of samples of each batch.

    Raises:
        TypeError: the batches contain something that is neither a tensor nor a list of samples.
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
