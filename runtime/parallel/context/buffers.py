"""Divides tensors along their positions for a while, in place."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.autograd.graph import increment_version

from runtime.parallel.context.parts import PIECES, part_of


def check_buffers(
    buffers: Sequence[Any], dimensions: Sequence[int], kept: Sequence[Any], size: int
) -> int:
    """Check what will be divided, and return the length of the sequences.

    Args:
        buffers: the tensors.
        dimensions: for each, the dimension of its positions.
        kept: those of the tensors that stay divided.
        size: the number of processes that share the sequences.

    Raises:
        TypeError: a buffer is no tensor.
        ValueError: there is no buffer, the arguments contradict each other, a buffer requires a
            gradient, or its length cannot be divided.
    """
    if len(buffers) != len(dimensions):
        sentence = (
            "buffer_seq_dims must have one dimension for each buffer, but there are "
            f"{len(dimensions)} dimensions and {len(buffers)} buffers"
        )
        raise ValueError(sentence)
    for number, one in enumerate(buffers):
        _check_tensor(f"buffers[{number}]", one)
        if any(one is other for other in buffers[:number]):
            sentence = f"buffers[{number}] is in the list twice, and would be divided twice"
            raise ValueError(sentence)
    if any(not any(one is other for other in buffers) for one in kept):
        sentence = "`no_restore_buffers` must be a subset of `buffers`."
        raise ValueError(sentence)
    return _length(buffers, dimensions, size)


def _check_tensor(name: str, given: Any) -> None:
    if not isinstance(given, torch.Tensor):
        sentence = f"{name} must be a tensor, got {type(given).__name__}"
        raise TypeError(sentence)
    if given.requires_grad:
        sentence = (
            f"{name} requires a gradient, which dividing it in place would lose: divide the inputs "
            "of the model instead"
        )
        raise ValueError(sentence)


def _length(buffers: Sequence[torch.Tensor], dimensions: Sequence[int], size: int) -> int:
    lengths = []
    for number, (one, dimension) in enumerate(zip(buffers, dimensions, strict=True)):
        if not -one.dim() <= dimension < one.dim():
            sentence = (
                f"buffer_seq_dims[{number}] is {dimension}, but buffers[{number}] has "
                f"{one.dim()} dimensions"
            )
            raise ValueError(sentence)
        lengths.append(one.shape[dimension])
    if len(set(lengths)) > 1:
        sentence = (
            "all buffers must have the same number of positions, but got "
            f"{', '.join(map(str, lengths))}: check buffer_seq_dims"
        )
        raise ValueError(sentence)
    if not lengths:
        sentence = (
            "maybe_context_parallel() needs all tensors of the batch that have positions: pass "
            "buffers=[inputs, ...] and buffer_seq_dims"
        )
        raise ValueError(sentence)
    length = lengths[0]
    if length % (PIECES * size):
        sentence = (
            f"the number of positions must be a multiple of {PIECES * size} (twice cp_size), but "
            f"is {length}: pad the sequences"
        )
        raise ValueError(sentence)
    return length


@contextlib.contextmanager
def divided(
    buffers: Sequence[torch.Tensor],
    dimensions: Sequence[int],
    kept: Sequence[torch.Tensor],
    *,
    rank: int,
    size: int,
) -> Iterator[None]:
    """Return a context in which each buffer has only the part of this process.

    What shares memory with a buffer, such as another slice of the same batch, is not changed.

    Args:
        buffers: tensors that `check_buffers` has accepted.
        dimensions: for each, the dimension of its positions.
        kept: those of the tensors that stay divided.
        rank: the index of this process among those that share the sequences.
        size: the number of these processes.
    """
    wholes = [one.detach() for one in buffers]
    pairs = zip(wholes, dimensions, strict=True)
    parts = [part_of(whole, dimension, rank, size) for whole, dimension in pairs]
    for buffer, part in zip(buffers, parts, strict=True):
        _replace(buffer, part)
    try:
        yield
    finally:
        for buffer, whole in zip(buffers, wholes, strict=True):
            is_kept = any(buffer is one for one in kept)
            _replace(buffer, buffer.detach() if is_kept else whole)


def _replace(buffer: torch.Tensor, data: torch.Tensor) -> None:
    """Give a tensor other data; a backward that still needs the old ones raises an error."""
    buffer.data = data
    if not buffer.is_inference():
        increment_version(buffer)
