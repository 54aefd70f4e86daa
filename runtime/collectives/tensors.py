"""What all processes do together with tensors, nested as they may be.

A structure costs one message, not one for each of its tensors. In a world of one each function
returns what it was given.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import distributed

from runtime.collectives.debug import verify_operation
from runtime.collectives.nested import find_device, leaves, map_tensors, recursively_apply
from runtime.collectives.objects import each_object
from runtime.collectives.packing import (
    ROUNDED,
    agree,
    beginning,
    is_alike,
    marks,
    pack,
    plain,
    unpack,
)
from runtime.world.roll_call import Collective
from runtime.world.state import PartialState
from runtime.world.structure import checksum, lines

# "none" leaves out the division only, as accelerate 1.15's does.
REDUCTIONS = {"sum": "SUM", "mean": "SUM", "max": "MAX", "none": "SUM"}


_SMALL = 2**16  # bytes of a tensor on the CPU whose structure is worth a copy to check


class CannotPadNestedTensorWarning(UserWarning):
    """A nested tensor was left as it is."""


def _tensors(data: Any, name: str) -> list[torch.Tensor]:
    """All tensors of nested data, which has nothing else."""
    found = leaves(data)
    for leaf in found:
        if not isinstance(leaf, torch.Tensor):
            sentence = f"{name} takes tensors in lists, tuples and dicts, got {type(leaf).__name__}"
            raise TypeError(sentence)
    return found


def _rebuilt(data: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """The same structure with other tensors, in order."""
    replacements: Iterator[torch.Tensor] = iter(tensors)
    return map_tensors(lambda _: next(replacements), data)


def _grouped(
    tensors: Sequence[torch.Tensor], key: Callable[[torch.Tensor], Any]
) -> list[list[int]]:
    """Positions of the tensors that may travel together."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, tensor in enumerate(tensors):
        groups[key(tensor)].append(position)
    return list(groups.values())


@verify_operation
def gather(tensor: Any) -> Any:
    """Concatenate every tensor of all processes along dimension 0, in order of rank.

    Tensors must have one shape on all processes; without a dimension they become one-dimensional.

    Raises:
        TypeError: something in `tensor` is not a tensor.
    """
    if PartialState().num_processes == 1:
        return tensor
    own = [one.reshape(1) if one.ndim == 0 else one for one in _tensors(tensor, "gather")]
    structure = lines("gather", tensor, own)
    gathered: dict[int, torch.Tensor] = {}
    for group in _grouped(own, lambda one: one.device):
        together = [own[i] for i in group]
        packed = _gather_packed(together, structure, is_alone=_is_sent_alone(together))
        gathered |= zip(group, packed, strict=True)
    return _rebuilt(tensor, [gathered[i] for i in range(len(own))])


def _is_sent_alone(own: list[torch.Tensor]) -> bool:
    """Whether it goes as torch sends it, with no copy and no check: a large tensor, or a device's.

    A check waits for the device, which otherwise computes on.
    """
    return len(own) == 1 and (own[0].device.type != "cpu" or own[0].nbytes > _SMALL)


def _gather_packed(
    own: list[torch.Tensor], structure: Sequence[str], *, is_alone: bool
) -> list[torch.Tensor]:
    size = PartialState().num_processes
    sent = plain(own[0]) if is_alone else pack(own, checksum(structure))
    received = sent.new_empty((size * len(sent), *sent.shape[1:]))
    with Collective("gather", structure) as collective:
        distributed.all_gather_into_tensor(received, sent)
        if is_alone:
            return [received]
        collective.must_be_of_one_structure(is_alike(received.view(size, -1), beginning(sent)))
    return unpack(received.view(size, -1), own)


@verify_operation
def reduce(tensor: Any, reduction: str = "mean", scale: float = 1.0) -> Any:  # noqa: ARG001
    """Sum every tensor over all processes, divide by their number, or take the largest.

    Args:
        tensor: tensors, however nested; of one shape on all processes.
        reduction: `sum`, `mean` or `max`.
        scale: ignored, as Accelerate does on all devices but XLA.

    Raises:
        ValueError: another reduction.
        TypeError: something in `tensor` is not a tensor.
    """
    if reduction not in REDUCTIONS:
        sentence = f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}"
        raise ValueError(sentence)
    own = _tensors(tensor, "reduce")
    structure = lines(f"reduce ({reduction})", tensor, own)
    reduced: dict[int, torch.Tensor] = {}
    for group in _grouped(own, lambda one: (one.device, one.dtype)):
        packed = _reduce_packed([own[i] for i in group], reduction, structure)
        reduced |= zip(group, packed, strict=True)
    return _rebuilt(tensor, [reduced[i] for i in range(len(own))])


def _reduce_packed(
    own: list[torch.Tensor], reduction: str, structure: Sequence[str]
) -> list[torch.Tensor]:
    """Tensors of one dtype, in one message."""
    size, flat = PartialState().num_processes, [one.reshape(-1) for one in own]
    head = tail = own[0].new_empty(0)
    if size > 1 and not _is_sent_alone(own):
        head = marks(checksum(structure), own[0].dtype, own[0].device)
        tail = own[0].new_zeros(-(len(head) + sum(map(len, flat))) % ROUNDED)
    message = torch.cat([head, *flat, tail])
    if size > 1:
        operation = getattr(distributed.ReduceOp, REDUCTIONS[reduction])
        with Collective("reduce", structure) as collective:
            distributed.all_reduce(message.detach(), operation)
            if len(head):
                collective.must_be_of_one_structure(agree(message[: len(head)]))
    body = message[len(head) : len(message) - len(tail)]
    if size > 1 and reduction == "mean":
        body /= size
    parts = torch.split(body, [one.numel() for one in own])
    return [part.view(one.shape) for part, one in zip(parts, own, strict=True)]


@verify_operation
def broadcast(tensor: Any, from_process: int = 0) -> Any:
    """Overwrite every process' tensors with those of one, and return them.

    A tensor whose items share memory, as an expanded one, cannot be overwritten: it stays as it is,
    and a new one is returned in its place.

    Raises:
        TypeError: something in `tensor` is not a tensor.
    """
    if PartialState().num_processes == 1:
        return tensor
    own = _tensors(tensor, "broadcast")
    structure = lines(f"broadcast (from rank {from_process})", tensor, own)
    sent: dict[int, torch.Tensor] = {}
    for group in _grouped(own, lambda one: one.device):
        packed = _broadcast_packed([own[i] for i in group], from_process, structure)
        sent |= zip(group, packed, strict=True)
    if all(sent[i] is one for i, one in enumerate(own)):
        return tensor
    return _rebuilt(tensor, [sent[i] for i in range(len(own))])


def _broadcast_packed(
    own: list[torch.Tensor], source: int, structure: Sequence[str]
) -> list[torch.Tensor]:
    sent = pack(own, checksum(structure))
    head = beginning(sent).clone()
    with Collective("broadcast", structure) as collective:
        distributed.broadcast(sent, source)
        collective.must_be_of_one_structure(is_alike(sent.view(1, -1), head))
    flat = [one.detach().reshape(-1) for one in own]
    received = unpack(sent.view(1, -1), flat)
    return [_overwritten(one, new) for one, new in zip(own, received, strict=True)]


def _overwritten(tensor: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """The tensor with other numbers, or a new one if its items share memory."""
    new = flat.view(tensor.shape)
    if any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    ):
        return new
    tensor.detach().copy_(new)
    return tensor


def copy_tensor_to_devices(tensor: torch.Tensor | None = None) -> torch.Tensor:
    """Give all processes a tensor that only one of them has; the others give None.

    Raises:
        ValueError: none has it, or several.
    """
    state = PartialState()
    known = each_object(None if tensor is None else (tensor.shape, tensor.dtype))
    sources = [rank for rank, found in enumerate(known) if found is not None]
    if len(sources) != 1:
        sentence = f"exactly one process must have the tensor, got those of ranks {sources}"
        raise ValueError(sentence)
    shape, dtype = known[sources[0]]
    sent = torch.empty(shape, dtype=dtype, device=state.device) if tensor is None else tensor
    sent = sent.to(state.device).contiguous()
    if state.num_processes > 1:
        with Collective("copy_tensor_to_devices"):
            distributed.broadcast(sent, sources[0])
    return sent


def pad_across_processes(
    tensor: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False
) -> Any:
    """Make every tensor as long in one dimension as the longest of all processes.

    Args:
        tensor: tensors, however nested; those without the dimension stay as they are.
        dim: the dimension; may be negative.
        pad_index: the value to fill with.
        pad_first: fill at the beginning.

    Raises:
        TypeError: something in `tensor` is not a tensor.
    """
    own = _tensors(tensor, "pad_across_processes")
    shapes = [_shape(one) for one in own]
    longest = iter(_longest(own, shapes, lines("pad_across_processes", tensor, own, _dimensions)))
    padded = []
    for one, shape in zip(own, shapes, strict=True):
        lengths = [next(longest) for _ in shape]
        is_there = -len(shape) <= dim < len(shape)
        padded.append(_padded(one, dim, lengths[dim], pad_index, pad_first) if is_there else one)
    return _rebuilt(tensor, padded)


def _dimensions(tensor: torch.Tensor) -> str:
    return f"{tensor.dim()} dimensions"


def _longest(
    own: list[torch.Tensor], shapes: list[list[int]], structure: Sequence[str]
) -> list[int]:
    """The largest of all processes of each length, tensor by tensor."""
    sizes = [length for shape in shapes for length in shape]
    if PartialState().num_processes == 1 or not own:
        return sizes
    sent = torch.tensor([sizes], device=find_device(own))
    (gathered,) = _gather_packed([sent], structure, is_alone=False)
    longest: list[int] = gathered.amax(0).tolist()
    return longest


def _shape(tensor: torch.Tensor) -> list[int]:
    """Of a tensor that can be padded; a nested one has none."""
    if not tensor.is_nested:
        return [*tensor.shape]
    sentence = "Cannot pad nested tensors without more information. Leaving unprocessed."
    warnings.warn(sentence, CannotPadNestedTensorWarning, stacklevel=4)
    return []


def _padded(
    tensor: torch.Tensor, dim: int, length: int, pad_index: int, pad_first: bool
) -> torch.Tensor:
    if length == tensor.shape[dim]:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = length - tensor.shape[dim]
    padding = tensor.new_full(shape, pad_index)
    return torch.cat([padding, tensor] if pad_first else [tensor, padding], dim)


def pad_input_tensors(tensor: Any, batch_size: int, num_processes: int, dim: int = 0) -> Any:
    """Add zeros to every tensor until its length can be divided among the processes.

    Args:
        tensor: tensors, however nested, `batch_size` long in `dim`.
        batch_size: that length.
        num_processes: to divide by.
        dim: the dimension.
    """
    missing = -batch_size % num_processes

    def pad_one(one: torch.Tensor) -> torch.Tensor:
        return _padded(one, dim, one.shape[dim] + missing, 0, False)

    return recursively_apply(pad_one, tensor, error_on_other_type=True)


def wait_for_everyone() -> None:
    """Return when all processes have come here."""
    PartialState().wait_for_everyone()
