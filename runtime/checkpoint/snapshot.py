"""Copies states to CPU memory, so that threads can write them while training continues."""

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from runtime.checkpoint.memory import id_tensor_storage, is_plain

_PINNED = {"cuda", "xpu"}  # device types that copy asynchronously to pinned memory


class Snapshots:
    """Takes snapshots of states, one at a time, and reuses the memory of the previous snapshot."""

    def __init__(self, device: torch.device) -> None:
        """Begin without a snapshot.

        Args:
            device: the device of most tensors.
        """
        self._is_pinned = device.type in _PINNED
        self._held: dict[Any, list[torch.Tensor]] = {}  # (bytes, is pinned) -> buffers in use

    def take(self, state: Any) -> Any:
        """Return a deep copy of a state, with all tensors in CPU memory.

        Tensors are found anywhere in the state, also in objects of the script's own classes.
        Tensors that share a storage also share one in the copy; it is copied once. The previous
        snapshot becomes invalid, because its memory is reused for storages of the same sizes.

        Args:
            state: any object that can be copied with `copy.deepcopy`.
        """
        free, self._held = self._held, defaultdict(list)
        copies: dict[tuple[torch.device, int, int], torch.Tensor] = {}

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            place = id_tensor_storage(tensor)
            if place not in copies:
                copies[place] = self._copied(tensor, free)
            return _view(copies[place], tensor)

        with _Copying(copied):
            found = copy.deepcopy(state)
        if self._is_pinned:
            torch.accelerator.synchronize()
        return found

    def _copied(self, tensor: torch.Tensor, free: dict[Any, list[torch.Tensor]]) -> torch.Tensor:
        """Return a copy of a tensor's storage: uint8, of shape (bytes,).

        Args:
            tensor: the tensor.
            free: the buffers of the previous snapshot; this function takes one out if it fits.
        """
        storage = tensor.untyped_storage()
        is_pinned = self._is_pinned and tensor.device.type in _PINNED
        kind = storage.nbytes(), is_pinned
        buffer = free[kind].pop() if free.get(kind) else _made(*kind)
        self._held[kind].append(buffer)
        content = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
        return buffer.copy_(content, non_blocking=is_pinned)


def _made(bytes_: int, is_pinned: bool) -> torch.Tensor:
    return torch.empty(bytes_, dtype=torch.uint8, pin_memory=is_pinned)


def _view(content: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the dtype, shape and strides of another one, on a copied storage."""
    place = like.storage_offset(), like.size(), like.stride()
    one = torch.empty(0, dtype=like.dtype).set_(content.untyped_storage(), *place)
    return one.requires_grad_(like.requires_grad)


class _Copying(TorchFunctionMode):
    """A mode in which `copy.deepcopy` copies plain tensors with a given function."""

    def __init__(self, copied: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._copied = copied

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace `Tensor.__deepcopy__`, and `clone`, with which parameters are copied."""
        del types
        if func not in {torch.Tensor.__deepcopy__, torch.Tensor.clone} or not _has_memory(args[0]):
            return func(*args, **(kwargs or {}))
        tensor = args[0]
        copied = self._copied(tensor) if is_plain(tensor) else tensor.to("cpu", copy=True)
        if func is torch.Tensor.__deepcopy__ and vars(tensor):
            with self:  # torch disables the mode inside this method
                vars(copied).update(copy.deepcopy(vars(tensor), args[1]))
        return copied


def _has_memory(one: Any) -> bool:
    """Whether this is a tensor or parameter with memory: not on meta, and not a subclass."""
    return type(one) in {torch.Tensor, torch.nn.Parameter} and one.device.type != "meta"
