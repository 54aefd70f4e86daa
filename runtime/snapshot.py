"""Copies of states in this machine's memory, for threads to write while the training goes on."""

import copy
from collections import defaultdict
from typing import Any

import torch

from runtime.nested import leaves
from runtime.sizes import place_of


class Snapshots:
    """Makes copies in memory that is used again: there is one at a time."""

    def __init__(self, device: torch.device) -> None:
        """Args: device: where most tensors are."""
        self._is_pinned = device.type != "cpu"  # the device writes into such memory by itself
        self._held: dict[Any, list[torch.Tensor]] = {}  # by kind: what the last one is made of

    def take(self, state: Any) -> Any:
        """A copy of anything that can be saved, which no later change reaches.

        The last one is lost: its memory is used where a tensor is of the same kind. Tensors that
        were one in memory stay one.
        """
        free, self._held = self._held, defaultdict(list)
        copies: dict[Any, torch.Tensor] = {}
        memo: dict[int, Any] = {}
        for tensor in leaves(state):
            if type(tensor) is torch.Tensor and tensor.layout is torch.strided:
                where = tensor.dtype, place_of(tensor, id(tensor))
                if where not in copies:
                    copies[where] = self._copied(tensor, free)
                memo[id(tensor)] = copies[where].detach().requires_grad_(tensor.requires_grad)
        if self._is_pinned:
            torch.accelerator.synchronize()
        return copy.deepcopy(state, memo)

    def _copied(self, tensor: torch.Tensor, free: dict[Any, list[torch.Tensor]]) -> torch.Tensor:
        kind = (tensor.dtype, tensor.shape, tensor.stride())
        found = free.get(kind)
        buffer = found.pop() if found else self._made(tensor)
        self._held[kind].append(buffer)
        return buffer.copy_(tensor.detach(), non_blocking=self._is_pinned)

    def _made(self, tensor: torch.Tensor) -> torch.Tensor:
        is_pinned = self._is_pinned and tensor.device.type != "cpu"
        return torch.empty_like(tensor, device="cpu", requires_grad=False, pin_memory=is_pinned)
