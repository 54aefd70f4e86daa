"""Tensors inside of lists, tuples and dicts: done to each, the structure kept."""

from collections.abc import Callable, Mapping
from typing import Any

import torch


def map_tensors(function: Callable[[torch.Tensor], Any], data: Any) -> Any:
    """Apply a function to every tensor; everything else stays as it is.

    >>> map_tensors(lambda t: t + 1, {"a": (torch.tensor(1), "x")})
    {'a': (tensor(2), 'x')}
    """
    if isinstance(data, torch.Tensor):
        return function(data)
    return map_items(lambda item: map_tensors(function, item), data)


def map_items(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply a function to each item of a list, tuple or dict; anything else stays as it is."""
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(function, data))
    if isinstance(data, list | tuple):
        return type(data)(map(function, data))
    if isinstance(data, Mapping):
        return type(data)({key: function(item) for key, item in data.items()})  # type: ignore[call-arg]  # as dict and its kin take it
    return data


def leaves(data: Any) -> list[Any]:
    """Everything that is not a container, in order.

    >>> leaves([1, {"a": (2, 3)}])
    [1, 2, 3]
    """
    if isinstance(data, list | tuple):
        return [leaf for item in data for leaf in leaves(item)]
    if isinstance(data, Mapping):
        return [leaf for item in data.values() for leaf in leaves(item)]
    return [data]


def send_to_device(data: Any, device: torch.device | str, non_blocking: bool = False) -> Any:
    """The same data with every tensor on a device; tensors that are there are not copied.

    An object with a method `to` of its own, such as a graph or a tokenizer's output, goes by that.
    """
    if isinstance(data, torch.Tensor):
        return data.to(device, non_blocking=non_blocking)
    if hasattr(data, "to"):
        return data.to(device)
    return map_items(lambda item: send_to_device(item, device, non_blocking), data)


def find_batch_size(data: Any) -> int | None:
    """Length of the first tensor with a dimension; None if there is none."""
    tensors = (leaf for leaf in leaves(data) if isinstance(leaf, torch.Tensor) and leaf.ndim)
    return next((len(tensor) for tensor in tensors), None)


def concatenate_padding(share: Any, last: Any, times: int) -> Any:
    """A sequence or tensor with `last`, of length one, appended so many times."""
    if isinstance(share, torch.Tensor):
        return torch.cat([share, *([last] * times)])
    return share + last * times
