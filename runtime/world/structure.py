"""The structure of the data that a collective sends: order, keys, dtypes and shapes.

All processes must send the same structure. Its checksum is sent together with the tensors, so that
the check needs no further message, and different structures are found before tensors are unpacked.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

# Types whose repr() is the same in all processes.
_SAID_ALIKE = (str, bytes, int, float, complex, bool, type(None), torch.dtype)
_SHOWN = 4  # differing tensors in an error message
_ADVICE = (
    "Pad tensors with `pad_across_processes`, convert them to one dtype, and put keys in the same "
    "order; `gather_for_metrics(..., use_gather_object=True)` takes tensors of any shape."
)


def dtype_and_shape(tensor: torch.Tensor) -> str:
    """Return the properties of a tensor that must be the same on all processes.

    >>> dtype_and_shape(torch.ones(2, 3))
    'float32 (2, 3)'
    """
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def lines(
    operation: str,
    data: Any,
    tensors: Sequence[torch.Tensor],
    kind: Callable[[torch.Tensor], str] = dtype_and_shape,
) -> tuple[str, ...]:
    """Describe the structure of the data that is sent.

    Args:
        operation: the name of the collective.
        data: the nested data.
        tensors: the tensors of the data as they are sent, in order.
        kind: describes the properties of a tensor that must be the same on all processes.

    Returns:
        The operation, followed by one line for each tensor.

    >>> lines("gather", {"a": [torch.ones(2)]}, [torch.ones(2)])
    ('gather', "['a'][0]: float32 (2,)")
    """
    paths = zip(_paths(data, ""), tensors, strict=True)
    return (operation, *(f"{path or 'the tensor'}: {kind(one)}" for path, one in paths))


def _paths(data: Any, path: str) -> Iterator[str]:
    """Yield the path of each leaf of nested data, as a Python expression."""
    if isinstance(data, Mapping):
        for key, item in data.items():
            yield from _paths(item, f"{path}[{_key(key)}]")
    elif isinstance(data, list | tuple):
        for index, item in enumerate(data):
            yield from _paths(item, f"{path}[{index}]")
    else:
        yield path


def _key(key: Any) -> str:
    """Describe a key. A repr() with an address, or of a set, would differ between processes."""
    return repr(key) if isinstance(key, _SAID_ALIKE) else type(key).__name__


def checksum(structure: Sequence[str]) -> int:
    """Return a 32-bit checksum, which is the same for the same structure in every process."""
    return zlib.crc32("\n".join(structure).encode())


def difference(sent: Mapping[int, Sequence[str]]) -> str | None:
    """Describe the differences between structures; None if there are none.

    Args:
        sent: rank -> the structure that it has sent; ranks may be missing.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for rank, structure in sorted(sent.items()):
        groups.setdefault(tuple(structure), []).append(rank)
    if len(groups) < 2:  # noqa: PLR2004
        return None
    longest = max(map(len, groups))
    columns = [{group[i : i + 1] for group in groups} for i in range(longest)]
    differing = [i for i, column in enumerate(columns) if len(column) > 1]
    said = "\n".join(f"  - {_who(ranks)} {_what(own, differing)}" for own, ranks in groups.items())
    return f"{said}\n{_ADVICE}"


def _who(ranks: Sequence[int]) -> str:
    names = ", ".join(map(str, ranks[:_SHOWN]))
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return f"{'ranks' if len(ranks) > 1 else 'rank'} {names}{more}:"


def _what(structure: Sequence[str], differing: Sequence[int]) -> str:
    own = [structure[i] for i in differing if i < len(structure)]
    more = [f"and {len(own) - _SHOWN} more"] if len(own) > _SHOWN else []
    count = len(structure) - 1
    return f"{count} tensor{'s' * (count != 1)}; " + "; ".join(own[:_SHOWN] + more)
