"""Collectives on nested tensors.

Nested data is sent in one message, not in one message per tensor. With a single process, each
function returns the values that it was given.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

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

# As in accelerate 1.15, "none" sums and only omits the division.
Reduction = Literal["sum", "mean", "max", "none"]
REDUCTIONS = {"sum": "SUM", "mean": "SUM", "max": "MAX", "none": "SUM"}


_SMALL = 2**16  # bytes up to which a tensor on the CPU is copied to check its structure


class CannotPadNestedTensorWarning(UserWarning):
    """A nested tensor cannot be padded and was left unchanged."""


def _tensors(data: Any, name: str) -> list[torch.Tensor]:
    """Return all tensors of nested data.

    Raises:
        TypeError: the data contains an object that is not a tensor.
    """
    found = leaves(data)
    for leaf in found:
        if not isinstance(leaf, torch.Tensor):
            sentence = f"{name} takes tensors in lists, tuples and dicts, got {type(leaf).__name__}"
            raise TypeError(sentence)
    return found


def _rebuilt(data: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """Return the same structure with other tensors, in order."""
    replacements: Iterator[torch.Tensor] = iter(tensors)
    return map_tensors(lambda _: next(replacements), data)


def _grouped(
    tensors: Sequence[torch.Tensor], key: Callable[[torch.Tensor], Any]
) -> list[list[int]]:
    """Return the indices of tensors with the same key, which can be sent in one message."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for position, tensor in enumerate(tensors):
        groups[key(tensor)].append(position)
    return list(groups.values())


@verify_operation
def gather(tensor: Any) -> Any:
    """Concatenate each tensor of all processes along dimension 0, in order of rank.

    Args:
        tensor: nested tensors, of the same shapes on all processes. Scalars become one-dimensional.

    Raises:
        TypeError: the data contains an object that is not a tensor.
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
    """Whether tensors are sent without a copy and a check of their structure.

    That is the case for a single tensor which is large or not on the CPU: a check would wait for
    the device.
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
def reduce(
    tensor: Any,
    reduction: Reduction = "mean",
    scale: float = 1.0,  # noqa: ARG001  # accelerate's signature
) -> Any:
    """Reduce each tensor over all processes.

    Args:
        tensor: nested tensors, of the same shapes on all processes.
        reduction: `sum`, `mean`, `max`, or `none`, which sums as in Accelerate.
        scale: ignored, as Accelerate does on all devices except XLA.

    Raises:
        ValueError: the reduction is unknown.
        TypeError: the data contains an object that is not a tensor.
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
    """Reduce tensors of one device and dtype in one message."""
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
    """Overwrite the tensors of all processes with those of one process, and return them.

    A tensor whose elements share memory, for example an expanded one, cannot be overwritten. It
    stays unchanged, and a new tensor is returned in its place.

    Args:
        tensor: nested tensors, of the same shapes on all processes.
        from_process: the rank whose values are sent.

    Raises:
        TypeError: the data contains an object that is not a tensor.
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
    """Overwrite a tensor and return it, or return a new one if its elements share memory."""
    new = flat.view(tensor.shape)
    if any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    ):
        return new
    tensor.detach().copy_(new)
    return tensor


def copy_tensor_to_devices(tensor: torch.Tensor | None = None) -> torch.Tensor:
    """Send a tensor that only one process has to all processes.

    Args:
        tensor: the tensor; None on all other processes.

    Returns:
        The tensor, on the device of each process.

    Raises:
        ValueError: no process or more than one process has a tensor.
    """
    state = PartialState()
    known = each_object(None if tensor is None else (tensor.shape, tensor.dtype))
    sources = [rank for rank, found in enumerate(known) if found is not None]
    if len(sources) != 1:
        sentence = f"exactly one process must pass a tensor, got tensors from ranks {sources}"
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
    """Pad each tensor in one dimension to the largest length of all processes.

    Args:
        tensor: nested tensors; those without the dimension stay unchanged.
        dim: the dimension; may be negative.
        pad_index: the value to pad with.
        pad_first: whether to pad at the beginning instead of the end.

    Raises:
        TypeError: the data contains an object that is not a tensor.
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
    """Return the maximum over all processes of each tensor's lengths, in one list."""
    sizes = [length for shape in shapes for length in shape]
    if PartialState().num_processes == 1 or not own:
        return sizes
    sent = torch.tensor([sizes], device=find_device(own))
    (gathered,) = _gather_packed([sent], structure, is_alone=False)
    longest: list[int] = gathered.amax(0).tolist()
    return longest


def _shape(tensor: torch.Tensor) -> list[int]:
    """Return the shape of a tensor; warn and return none for a nested tensor."""
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
    """Pad each tensor with zeros so that its length is divisible by the number of processes.

    Args:
        tensor: nested tensors.
        batch_size: the length of each tensor in `dim`.
        num_processes: the number of processes.
        dim: the dimension to pad.
    """
    missing = -batch_size % num_processes

    def pad_one(one: torch.Tensor) -> torch.Tensor:
        return _padded(one, dim, one.shape[dim] + missing, 0, False)

    return recursively_apply(pad_one, tensor, error_on_other_type=True)


def wait_for_everyone() -> None:
    """Wait until all processes have called this function."""
    PartialState().wait_for_everyone()
