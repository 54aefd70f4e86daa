"""Copies of states in this machine's memory, for threads to write while the training goes on."""

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from runtime.checkpoint.memory import id_tensor_storage, is_plain

_PINNED = {"cuda", "xpu"}  # devices that write into such memory by themselves


class Snapshots:
    """Makes copies in memory that is used again: there is one at a time."""

    def __init__(self, device: torch.device) -> None:
        """Args: device: where most tensors are."""
        self._is_pinned = device.type in _PINNED
        self._held: dict[Any, list[torch.Tensor]] = {}  # by kind: what the last one is made of

    def take(self, state: Any) -> Any:
        """A copy of anything that can be saved, which no later change reaches.

        Every tensor is copied to this machine's memory, wherever it is in the state, also in
        objects of a script's own. The last copy is lost: its memory is used for storages of the
        same sizes. Tensors that share a storage share one in the copy, and it is copied once.
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
        """The bytes of a tensor's storage: uint8 (bytes,)."""
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
    """A tensor as another one, but in a copy of its storage."""
    place = like.storage_offset(), like.size(), like.stride()
    one = torch.empty(0, dtype=like.dtype).set_(content.untyped_storage(), *place)
    return one.requires_grad_(like.requires_grad)


class _Copying(TorchFunctionMode):
    """Within, copies that `copy.deepcopy` makes of tensors are made by a function."""

    def __init__(self, copied: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._copied = copied

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch does, but for what `deepcopy` asks of tensors and of parameters."""
        del types
        if func not in {torch.Tensor.__deepcopy__, torch.Tensor.clone} or not _has_memory(args[0]):
            return func(*args, **(kwargs or {}))
        tensor = args[0]
        copied = self._copied(tensor) if is_plain(tensor) else tensor.to("cpu", copy=True)
        if func is torch.Tensor.__deepcopy__ and vars(tensor):
            with self:  # torch has left it for this call
                vars(copied).update(copy.deepcopy(vars(tensor), args[1]))
        return copied


def _has_memory(one: Any) -> bool:
    """Whether a tensor has memory of its own, rather than being made of others."""
    return type(one) in {torch.Tensor, torch.nn.Parameter} and one.device.type != "meta"
