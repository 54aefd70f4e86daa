"""What all processes do together with tensors and objects, nested as they may be.

In a world of one each of them returns what it was given.
"""

from typing import Any

import torch
from torch import distributed

from runtime.nested import leaves, map_tensors
from runtime.state import PartialState


def gather(data: Any) -> Any:
    """Concatenate every tensor of all processes along dimension 0, in order of rank.

    Tensors must have one shape on all processes; without a dimension they become one-dimensional.

    Raises:
        TypeError: something in `data` is not a tensor.
    """
    _check_tensors(data, "gather")
    return map_tensors(_gather_tensor, data)


def _gather_tensor(tensor: torch.Tensor) -> torch.Tensor:
    state = PartialState()
    if state.num_processes == 1:
        return tensor
    own = tensor.detach().reshape(1) if tensor.ndim == 0 else tensor.detach().contiguous()
    received = own.new_empty((state.num_processes * len(own), *own.shape[1:]))
    distributed.all_gather_into_tensor(received, own)
    return received


def gather_object(data: Any) -> Any:
    """Concatenate a list of any objects of all processes, in order of rank."""
    state = PartialState()
    if state.num_processes == 1:
        return data
    received: list[Any] = [None] * state.num_processes
    distributed.all_gather_object(received, data)
    return [item for items in received for item in items]


def reduce(data: Any, reduction: str = "mean") -> Any:
    """Sum every tensor over all processes (`sum`), and divide by their number (`mean`).

    Raises:
        ValueError: another reduction.
        TypeError: something in `data` is not a tensor.
    """
    if reduction not in ("sum", "mean"):
        sentence = f"reduction must be sum or mean, got {reduction!r}"
        raise ValueError(sentence)
    _check_tensors(data, "reduce")
    return map_tensors(lambda tensor: _reduce_tensor(tensor, reduction), data)


def _reduce_tensor(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
    state, result = PartialState(), tensor.detach().clone()
    if state.num_processes > 1:
        distributed.all_reduce(result)
        if reduction == "mean":
            result /= state.num_processes
    return result


def broadcast(data: Any, from_process: int = 0) -> Any:
    """Give every process the tensors of one."""
    return map_tensors(lambda tensor: _broadcast_tensor(tensor, from_process), data)


def _broadcast_tensor(tensor: torch.Tensor, from_process: int) -> torch.Tensor:
    if PartialState().num_processes > 1:
        distributed.broadcast(tensor, from_process)
    return tensor


def broadcast_state(state: torch.Tensor) -> torch.Tensor:
    """Rank 0's state of a random generator, on the CPU, for all."""
    here = PartialState()
    if here.num_processes == 1:
        return state
    sent = state.to(here.communication_device)
    distributed.broadcast(sent, 0)
    return sent.cpu()


def broadcast_object_list(objects: list[Any], from_process: int = 0) -> list[Any]:
    """Replace the objects in a list by those of one process, in place."""
    if PartialState().num_processes > 1:
        distributed.broadcast_object_list(objects, src=from_process)
    return objects


def pad_across_processes(
    data: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False
) -> Any:
    """Make every tensor as long in one dimension as the longest of all processes.

    Args:
        data: tensors; those without the dimension stay as they are.
        dim: the dimension; may be negative.
        pad_index: the value to fill with.
        pad_first: fill at the beginning.
    """
    return map_tensors(lambda tensor: _pad_tensor(tensor, dim, pad_index, pad_first), data)


def _pad_tensor(tensor: torch.Tensor, dim: int, pad_index: int, pad_first: bool) -> torch.Tensor:
    if not -tensor.ndim <= dim < tensor.ndim:
        return tensor
    own = torch.tensor([tensor.shape[dim]], device=tensor.device)
    missing = int(_gather_tensor(own).max()) - tensor.shape[dim]
    if missing == 0:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    padding = tensor.new_full(shape, pad_index)
    return torch.cat([padding, tensor] if pad_first else [tensor, padding], dim)


def _check_tensors(data: Any, name: str) -> None:
    for leaf in leaves(data):
        if isinstance(leaf, torch.Tensor):
            continue
        sentence = f"{name} takes tensors in lists, tuples and dicts, got {type(leaf).__name__}"
        raise TypeError(sentence)
