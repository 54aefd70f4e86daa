"""Which batches a checkpoint may contain: those that a process has read ahead of its script."""

from typing import Any

import torch

_MOST = 2**24  # bytes of all tensors of a batch


def is_plain(batch: Any) -> bool:
    """Whether a batch has only values that a checkpoint can contain, and is small.

    A batch that is not is read again when the training is resumed.

    >>> is_plain([torch.zeros(2), {"label": "a"}]), is_plain(object())
    (True, False)
    """
    size = _size(batch)
    return size is not None and size <= _MOST


def _size(value: Any) -> int | None:
    """Return the bytes of all tensors in a value; None if it has another kind of object."""
    if type(value) is torch.Tensor:
        return value.numel() * value.element_size()
    if value is None or type(value) in {bool, int, float, str, bytes}:
        return 0
    if type(value) is dict:
        return _sum([*value.keys(), *value.values()])
    return _sum(value) if type(value) in {list, tuple} else None


def _sum(values: Any) -> int | None:
    sizes = [_size(one) for one in values]
    return None if None in sizes else sum(size or 0 for size in sizes)
