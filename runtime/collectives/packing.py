"""Many tensors as one: what a collective sends once, however its data is nested.

A process group pays for a message, hardly for its length: twenty small tensors in one message cost
what one of them costs. A message begins with the checksum of its structure (see `structure`).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch

ALIGNMENT = 16  # bytes; the largest item of any dtype
ROUNDED = 512  # bytes; messages that differ little are of one length: their beginnings are compared
_BITS = 32  # of a checksum


def aligned(bytes_: int) -> int:
    """Round a number of bytes up, so that what follows them is aligned for any dtype.

    >>> aligned(1), aligned(16)
    (16, 16)
    """
    return -(-bytes_ // ALIGNMENT) * ALIGNMENT


def starts_of(tensors: Sequence[torch.Tensor], start: int) -> list[int]:
    """Return where each tensor begins in a buffer, in bytes, and at last where the buffer ends.

    Args:
        tensors: the tensors, one after the other.
        start: where the first one begins; a multiple of the alignment.
    """
    return [*accumulate((aligned(one.nbytes) for one in tensors), initial=start)]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers without gradients, contiguous, and computed where they are a lazy view."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def pack(tensors: Sequence[torch.Tensor], checksum: int) -> torch.Tensor:
    """All tensors, of any shapes and dtypes but on one device, as uint8 (bytes,)."""
    device = tensors[0].device
    starts = starts_of(tensors, ALIGNMENT)
    bytes_ = -(-starts[-1] // ROUNDED) * ROUNDED
    packed = torch.zeros(bytes_, dtype=torch.uint8, device=device)
    packed[:ALIGNMENT] = _header(checksum, bytes_, device)
    for start, tensor in zip(starts, tensors, strict=False):
        part = packed[start : start + tensor.nbytes].view(tensor.dtype)
        part.view(tensor.shape).copy_(tensor.detach())
    return packed


@lru_cache(maxsize=256)
def _header(checksum: int, bytes_: int, device: torch.device) -> torch.Tensor:
    return torch.tensor([checksum, bytes_], dtype=torch.int64, device=device).view(torch.uint8)


def beginning(pack: torch.Tensor) -> torch.Tensor:
    """What a pack must have in common with those of other processes: a view of it."""
    return pack[:ALIGNMENT]


def is_alike(packs: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether all packs, uint8 (packs, bytes), begin as this process' own one does."""
    heads = packs[:, :ALIGNMENT]
    return torch.equal(heads, own.expand_as(heads))


def unpack(packs: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Every tensor of several packs, concatenated along its dimension 0.

    Args:
        packs: uint8 (packs, bytes), each made of tensors of the same shapes and dtypes.
        like: those tensors; none of them without a dimension.
    """
    starts = starts_of(like, ALIGNMENT)
    parts = (packs[:, start : start + one.nbytes] for start, one in zip(starts, like, strict=False))
    return [
        part.contiguous().view(one.dtype).reshape(-1, *one.shape[1:])
        if one.numel()
        else one.new_empty((len(packs) * len(one), *one.shape[1:]))
        for part, one in zip(parts, like, strict=True)
    ]


@lru_cache(maxsize=256)
def marks(checksum: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A checksum in numbers that may be summed or compared: its bits, and their complements."""
    bits = [checksum >> i & 1 for i in range(_BITS)]
    return torch.tensor([*bits, *(1 - bit for bit in bits)], dtype=dtype, device=device)


def agree(marks: torch.Tensor) -> bool:
    """Whether marks that were reduced over all processes were the same on all of them.

    The sum and the maximum of a bit are 0 if and only if it is 0 everywhere, however coarse the
    dtype (but for 8 bits, which 256 processes overflow): either a bit or its complement must be.
    """
    found = marks.view(2, _BITS) != 0
    return not bool((found[0] & found[1]).any())
