"""Many tensors as one: what a collective sends once, however its data is nested.

A process group pays for a message, hardly for its length: twenty small tensors in one message cost
what one of them costs.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch

ALIGNMENT = 16  # bytes; the largest item of any dtype


def size(tensor: torch.Tensor) -> int:
    """Bytes that a tensor takes in a pack, with those that keep the next one aligned."""
    return -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT


def pack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All tensors, of any shapes and dtypes but on one device, as uint8 (bytes,)."""
    starts = [0, *accumulate(map(size, tensors))]
    packed = torch.zeros(starts[-1], dtype=torch.uint8, device=tensors[0].device)
    for start, tensor in zip(starts, tensors, strict=False):
        packed[start : start + tensor.nbytes] = (
            tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        )
    return packed


def unpack(packs: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Every tensor of several packs, concatenated along its dimension 0.

    Args:
        packs: uint8 (packs, bytes), each made of tensors of the same shapes and dtypes.
        like: those tensors; none of them without a dimension.
    """
    starts = [0, *accumulate(map(size, like))]
    parts = (packs[:, start : start + one.nbytes] for start, one in zip(starts, like, strict=False))
    return [
        part.contiguous().view(one.dtype).reshape(-1, *one.shape[1:])
        if one.numel()
        else one.new_empty((len(packs) * len(one), *one.shape[1:]))
        for part, one in zip(parts, like, strict=True)
    ]
