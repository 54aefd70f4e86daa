"""What a dispatcher sends: one message for each rank and step, with nothing that is not its own.

A message is its length, the structure of the part, and its tensors side by side.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, cycle, islice, pairwise
from typing import Any

import torch

from runtime.collectives.nested import (
    concatenate,
    find_batch_size,
    get_data_structure,
    ignorant_find_batch_size,
    is_tensor_information,
    leaves,
    map_tensors,
    recursively_apply,
    slice_tensors,
)
from runtime.collectives.packing import aligned, starts_of
from runtime.data import samples
from runtime.data.dispatch import wire

READING_FAILED = -1  # in place of a message's length; 0: there is no part
_LENGTHS = struct.Struct("qq")  # of the message and of its header
_PREFIX = _LENGTHS.size  # bytes, a multiple of the alignment
SliceFn = Callable[..., Any]
First = Callable[[], list[Any]]  # the batches of the first step; called where one is to be filled


@dataclass(frozen=True, slots=True)
class Step:
    """What rank 0 has read for one step: a part for each rank."""

    parts: list[Any]
    is_last: bool
    real: int | None  # samples; None: they cannot be counted
    padding_ranks: int = 0  # how many of the last ranks have a part that another one has, too


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank has received."""

    batch: Any
    real: int | None
    padding_ranks: int
    is_last: bool


def by_batches(
    batches: list[Any],
    world_size: int,
    first: First,
    *,
    is_last: bool,
    slice_fn: SliceFn = slice_tensors,
) -> Step:
    """Divide as many batches as there are ranks; at the end there may be fewer.

    Batches of one size go to a rank each, whatever they are made of. Else their samples are put
    together and divided evenly; if they cannot be put together, batches go to the ranks as they
    are, and the first step's again to ranks without one.

    Args:
        batches: read for this step.
        world_size: ranks.
        first: the batches of the first step, which fill the last one.
        is_last: whether this is the last one.
        slice_fn: takes a batch, a slice, a rank and the world's size.
    """
    is_own = slice_fn is not slice_tensors
    sizes = {_samples(batch) for batch in batches}
    if len(batches) == world_size and len(sizes) == 1 and not is_own:
        (size_,) = sizes
        return Step(batches, is_last, None if size_ is None else world_size * size_)
    whole = _joined(batches) if is_own or None not in sizes else None
    if whole is None or (is_last and not _can_be_even(whole, world_size, first)):
        missing = world_size - len(batches)
        filling = islice(cycle(first()), missing) if missing else ()
        return Step([*batches, *filling], is_last, None, missing)
    return _divided(whole, world_size, first, is_last=is_last, slice_fn=slice_fn)


def by_samples(
    batches: list[Any],
    world_size: int,
    first: First,
    *,
    is_last: bool,
    slice_fn: SliceFn = slice_tensors,
) -> Step:
    """Put batches together and divide their samples; the last ones are filled to be even.

    Raises:
        RuntimeError: tensors of shapes that do not go together.
        TypeError: batches of something else than tensors.
    """
    whole = samples.together(batches, [samples.count(batch) for batch in batches])
    return _divided(whole, world_size, first, is_last=is_last, slice_fn=slice_fn)


def _samples(batch: Any) -> int | None:
    """The length that all tensors of a batch have; None if it is made of anything else."""
    lengths = {
        leaf.shape[0] if isinstance(leaf, torch.Tensor) and leaf.dim() else None
        for leaf in leaves(batch)
    }
    return lengths.pop() if len(lengths) == 1 else None


def _joined(batches: list[Any]) -> Any:
    """Batches put together; None if they do not go together."""
    if len({len(leaves(batch)) for batch in batches}) > 1:
        return None
    try:
        whole = concatenate(batches)
    except (IndexError, KeyError, RuntimeError, TypeError):
        return None
    return None if ignorant_find_batch_size(whole) is None else whole


def _can_be_even(whole: Any, world_size: int, first: First) -> bool:
    """Whether all ranks can have as many samples of this step as each other."""
    return not find_batch_size(whole) % world_size or _joined([whole, *first()]) is not None


def _divided(
    whole: Any, world_size: int, first: First, *, is_last: bool, slice_fn: SliceFn
) -> Step:
    real = samples.count(whole)
    shares = [real // world_size + (rank < real % world_size) for rank in range(world_size)]
    if is_last and real % world_size:
        whole = _filled(whole, real, world_size, first())
        shares = [shares[0]] * world_size
    spans = [slice(*edge) for edge in pairwise([0, *accumulate(shares)])]
    if slice_fn is slice_tensors:
        there = samples.count(whole)
        return Step([samples.some(whole, span, there) for span in spans], is_last, real)
    parts = [
        slice_fn(whole, span, process_index=rank, num_processes=world_size)
        for rank, span in enumerate(spans)
    ]
    return Step(parts, is_last, real)


def _filled(whole: Any, real: int, world_size: int, first: list[Any]) -> Any:
    """A batch with as many of the first step's samples behind it as all ranks may need."""
    head = samples.together(first, [samples.count(batch) for batch in first])
    there = samples.count(head)
    head = samples.some(head, slice(0, world_size), there)
    heads = [head] * -(-world_size // min(there, world_size))
    return samples.together([whole, *heads], [real, *[min(there, world_size)] * len(heads)])


def own_part(step: Step) -> Part:
    """Rank 0's, whose tensors nobody else has."""
    batch = map_tensors(_copied, step.parts[0])
    return Part(batch, step.real, step.padding_ranks, step.is_last)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().as_subclass(torch.Tensor)
    return plain.clone(memory_format=torch.contiguous_format)


class Buffer:
    """Memory for one message, and then for another one."""

    def __init__(self) -> None:
        """It is made when it is known how much is needed."""
        self._bytes = bytearray()

    def filled(self, part: Any, step: Step) -> torch.Tensor:
        """The message of one rank: uint8 (bytes,); it is lost when the next one is made."""
        structure = get_data_structure(part)
        header = wire.encoded((structure, step.real, step.padding_ranks, step.is_last))
        tensors = [leaf for leaf in leaves(part) if isinstance(leaf, torch.Tensor)]
        starts = starts_of(tensors, _start(len(header)))
        length = starts[-1]
        if length > len(self._bytes):
            self._bytes = bytearray(length)
            self._memory = torch.frombuffer(self._bytes, dtype=torch.uint8)
        # In Python, which is faster here than many small tensors.
        self._bytes[: _PREFIX + len(header)] = _LENGTHS.pack(length, len(header)) + header
        for start, tensor in zip(starts, tensors, strict=False):
            _view(self._memory, start, tensor).copy_(tensor.detach())
        return self._memory[:length]


def without_part(*, failed: bool) -> torch.Tensor:
    """A message that says that rank 0 has read nothing, or that it could not read."""
    said = _LENGTHS.pack(READING_FAILED if failed else 0, 0)
    return torch.frombuffer(bytearray(said), dtype=torch.uint8)


def length(message: torch.Tensor) -> int:
    """Bytes of a message, as its beginning says."""
    return int(message[:_PREFIX].view(torch.int64)[0])


def decoded(message: torch.Tensor) -> Part:
    """What a message says; its tensors are views of it."""
    header_bytes = int(message[:_PREFIX].view(torch.int64)[1])
    header = message[_PREFIX : _PREFIX + header_bytes]
    structure, real, padding_ranks, is_last = wire.decoded(bytes(header.tolist()))
    start = _start(header_bytes)

    def take(info: Any) -> torch.Tensor:
        nonlocal start
        one = _view(message, start, info)
        start += aligned(one.nbytes)
        return one

    batch = recursively_apply(take, structure, test_type=is_tensor_information)
    return Part(batch, real, padding_ranks, is_last)


def _view(message: torch.Tensor, start: int, like: Any) -> torch.Tensor:
    """The bytes of a message from `start` on as a tensor, of the shape and dtype of another."""
    bytes_ = like.shape.numel() * like.dtype.itemsize
    return message[start : start + bytes_].view(like.dtype).view(like.shape)


def _start(header_bytes: int) -> int:
    """Where the tensors begin."""
    return _PREFIX + aligned(header_bytes)
