"""The messages of a dispatcher: one for each rank and step, which contains only that rank's part.

A message consists of its length, the structure of the part, and the tensors one after the other.
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

READING_FAILED = -1  # instead of a message's length; a length of 0 means that there is no part
_LENGTHS = struct.Struct("qq")  # the lengths of the message and of its header
_PREFIX = _LENGTHS.size  # bytes; a multiple of the alignment
SliceFn = Callable[..., Any]
First = Callable[[], list[Any]]  # returns the batches of the first step, which fill the last one


@dataclass(frozen=True, slots=True)
class Step:
    """The parts of all ranks for one step, which rank 0 has read.

    Attributes:
        parts: the batch of each rank, in order of rank.
        is_last: whether this is the last step of the epoch.
        real: the number of samples without those that were added to fill the step; None if they
            cannot be counted.
        padding_ranks: the number of ranks at the end whose part is a copy of another rank's part.
    """

    parts: list[Any]
    is_last: bool
    real: int | None
    padding_ranks: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """The part of a step that one rank has received.

    Attributes:
        batch: the batch of this rank.
        real: see `Step`.
        padding_ranks: see `Step`.
        is_last: see `Step`.
    """

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
    """Divide a step that has one batch for each rank, or fewer at the end.

    If all batches have the same size, each rank gets one. Otherwise the batches are concatenated
    and the samples are divided evenly. If they cannot be concatenated, each rank gets one batch,
    and ranks without one get batches of the first step.

    Args:
        batches: the batches that were read for this step.
        world_size: the number of ranks.
        first: returns the batches of the first step, which fill the last one.
        is_last: whether this is the last step.
        slice_fn: slices a batch; its arguments are the batch, a slice, `process_index` and
            `num_processes`.
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
    """Concatenate the batches of a step and divide the samples; the last step is filled evenly.

    Args:
        batches: the batches that were read for this step.
        world_size: the number of ranks.
        first: returns the batches of the first step, which fill the last one.
        is_last: whether this is the last step.
        slice_fn: slices a batch; see `by_batches`.

    Raises:
        RuntimeError: the shapes of the tensors do not match.
        TypeError: the batches contain something that is neither a tensor nor a list of samples.
    """
    whole = samples.together(batches, [samples.count(batch) for batch in batches])
    return _divided(whole, world_size, first, is_last=is_last, slice_fn=slice_fn)


def _samples(batch: Any) -> int | None:
    """Return the common length of a batch's tensors; None if lengths differ or there are others."""
    lengths = {
        leaf.shape[0] if isinstance(leaf, torch.Tensor) and leaf.dim() else None
        for leaf in leaves(batch)
    }
    return lengths.pop() if len(lengths) == 1 else None


def _joined(batches: list[Any]) -> Any:
    """Concatenate batches; return None if that is not possible."""
    if len({len(leaves(batch)) for batch in batches}) > 1:
        return None
    try:
        whole = concatenate(batches)
    except (IndexError, KeyError, RuntimeError, TypeError):
        return None
    return None if ignorant_find_batch_size(whole) is None else whole


def _can_be_even(whole: Any, world_size: int, first: First) -> bool:
    """Whether this step can be divided into equal parts, after filling it if necessary."""
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
    """Append as many samples of the first step to a batch as all ranks may need."""
    head = samples.together(first, [samples.count(batch) for batch in first])
    there = samples.count(head)
    head = samples.some(head, slice(0, world_size), there)
    heads = [head] * -(-world_size // min(there, world_size))
    return samples.together([whole, *heads], [real, *[min(there, world_size)] * len(heads)])


def own_part(step: Step) -> Received:
    """Return rank 0's part of a step, with its own copies of the tensors."""
    batch = map_tensors(_copied, step.parts[0])
    return Received(batch, step.real, step.padding_ranks, step.is_last)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().as_subclass(torch.Tensor)
    return plain.clone(memory_format=torch.contiguous_format)


class Buffer:
    """Memory that is reused for one message after another."""

    def __init__(self) -> None:
        """Allocate nothing yet: the length is only known with the first message."""
        self._bytes = bytearray()

    def filled(self, part: Any, step: Step) -> torch.Tensor:
        """Return one rank's message, as uint8 (bytes,); the next call overwrites it.

        Args:
            part: the part of that rank.
            step: the step that the part belongs to.
        """
        structure = get_data_structure(part)
        header = wire.encoded((structure, step.real, step.padding_ranks, step.is_last))
        tensors = [leaf for leaf in leaves(part) if isinstance(leaf, torch.Tensor)]
        starts = starts_of(tensors, _start(len(header)))
        length = starts[-1]
        if length > len(self._bytes):
            self._bytes = bytearray(length)
            self._memory = torch.frombuffer(self._bytes, dtype=torch.uint8)
        # Assigning Python bytes is faster than creating small tensors.
        self._bytes[: _PREFIX + len(header)] = _LENGTHS.pack(length, len(header)) + header
        for start, tensor in zip(starts, tensors, strict=False):
            _view(self._memory, start, tensor).copy_(tensor.detach())
        return self._memory[:length]


def without_part(*, failed: bool) -> torch.Tensor:
    """Return a message without a part.

    Args:
        failed: whether rank 0 could not read; otherwise the epoch has ended.
    """
    said = _LENGTHS.pack(READING_FAILED if failed else 0, 0)
    return torch.frombuffer(bytearray(said), dtype=torch.uint8)


def length(message: torch.Tensor) -> int:
    """Return the length of a message in bytes, which its prefix contains."""
    return int(message[:_PREFIX].view(torch.int64)[0])


def decoded(message: torch.Tensor) -> Received:
    """Return the part that a message contains; its tensors are views of the message."""
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
    return Received(batch, real, padding_ranks, is_last)


def _view(message: torch.Tensor, start: int, like: Any) -> torch.Tensor:
    """Return the bytes from `start` on as a tensor of the shape and dtype of another one."""
    bytes_ = like.shape.numel() * like.dtype.itemsize
    return message[start : start + bytes_].view(like.dtype).view(like.shape)


def _start(header_bytes: int) -> int:
    """Return the offset in bytes of the first tensor in a message."""
    return _PREFIX + aligned(header_bytes)
