"""Pack many tensors into one, so that a collective on nested data sends one message.

The cost of a message hardly depends on its length: twenty small tensors in one message cost as much
as a single one. A message begins with the checksum of its structure (see `world.structure`).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch

ALIGNMENT = 16  # bytes; the size of the largest dtype
# Messages are padded to a multiple of this length, in bytes. Slightly different messages then have
# the same length, and the comparison of their checksums finds the difference.
ROUNDED = 512
_BITS = 32  # the bits of a checksum


def aligned(bytes_: int) -> int:
    """Round a number of bytes up to a multiple of the alignment, which suits any dtype.

    >>> aligned(1), aligned(16)
    (16, 16)
    """
    return -(-bytes_ // ALIGNMENT) * ALIGNMENT


def starts_of(tensors: Sequence[torch.Tensor], start: int) -> list[int]:
    """Return the offset of each tensor in a buffer, and last the end of the buffer, in bytes.

    Args:
        tensors: the tensors, in the order of the buffer.
        start: the offset of the first tensor; a multiple of the alignment.
    """
    return [*accumulate((aligned(one.nbytes) for one in tensors), initial=start)]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a detached, contiguous tensor of the same values; lazy views are materialized."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def pack(tensors: Sequence[torch.Tensor], checksum: int) -> torch.Tensor:
    """Return the bytes of tensors in one tensor, as uint8 (bytes,).

    Args:
        tensors: at least one tensor; all must be on the same device.
        checksum: the checksum of the structure, which begins the result.
    """
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
    """Return a view of a pack's header, which must be the same on all processes."""
    return pack[:ALIGNMENT]


def is_alike(packs: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether all packs have the same header as this process.

    Args:
        packs: the packs of other processes, uint8 (packs, bytes).
        own: the header of this process' pack.
    """
    heads = packs[:, :ALIGNMENT]
    return torch.equal(heads, own.expand_as(heads))


def unpack(packs: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors of several packs, each concatenated along dimension 0.

    Args:
        packs: the packs, uint8 (packs, bytes), whose tensors have the same shapes and dtypes.
        like: tensors of these shapes and dtypes; each has at least one dimension.
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
    """Return the bits of a checksum and their complements, which can be summed or maximized."""
    bits = [checksum >> i & 1 for i in range(_BITS)]
    return torch.tensor([*bits, *(1 - bit for bit in bits)], dtype=dtype, device=device)


def agree(marks: torch.Tensor) -> bool:
    """Whether all processes had the same checksum, after their marks were reduced.

    The sum or maximum of a bit is 0 if and only if the bit is 0 on all processes. If they agree,
    this holds for either the bit or its complement. The precision of the dtype does not matter, but
    with an 8-bit dtype a sum over 256 processes overflows.
    """
    found = marks.view(2, _BITS) != 0
    return not bool((found[0] & found[1]).any())
