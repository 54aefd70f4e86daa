"""Parses and formats sizes in bytes, and divides weights by size."""

import re
from collections.abc import Mapping
from typing import Any

import torch

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def convert_file_size_to_int(size: int | str) -> int:
    """Return the number of bytes of a size such as `5GB` (powers of 1000) or `200MiB` (of 1024).

    >>> [convert_file_size_to_int(size) for size in ("5GB", "1KiB", 100)]
    [5000000000, 1024, 100]

    Raises:
        ValueError: the text is not a size.
    """
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?)B", size, re.IGNORECASE)
    if found is None:
        sentence = f"a size must be a number of bytes or like '5GB' or '200MiB', got {size!r}"
        raise ValueError(sentence)
    digits, unit, binary = found.groups()
    return int(digits) * int((1024 if binary else 1000) ** _UNITS[unit.upper()])


def by_size(weights: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """Divide weights, in order, into parts of limited size.

    A part is larger than the limit only if it has a single weight. Values that are not tensors
    count as 0 bytes.

    Args:
        weights: name -> value.
        limit: the largest size of a part, in bytes.
    """
    shards: list[dict[str, Any]] = [{}]
    filled = 0
    for name, tensor in weights.items():
        size = getattr(tensor, "nbytes", 0)
        if shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    return shards


def tensor_bytes(state: Any) -> int:
    """Return the bytes of all tensors in nested mappings, lists and tuples.

    >>> tensor_bytes({"a": [torch.zeros(3)], "b": 1})
    12
    """
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(tensor_bytes(one) for one in state.values())
    return sum(map(tensor_bytes, state)) if isinstance(state, list | tuple) else 0


def convert_bytes(size: float) -> str:
    """Return a size in bytes as readable text, in powers of 1024.

    >>> convert_bytes(1536)
    '1.5 KB'
    """
    units = ["bytes", "KB", "MB", "GB", "TB", "PB"]
    while size >= 1024 and len(units) > 1:  # noqa: PLR2004  # see the docstring
        size /= 1024
        units.pop(0)
    return f"{round(size, 2)} {units[0]}"


def dtype_byte_size(dtype: torch.dtype) -> float:
    """Return the number of bytes per element; 1/8 for bool, as in Accelerate."""
    return 1 / 8 if dtype == torch.bool else dtype.itemsize
