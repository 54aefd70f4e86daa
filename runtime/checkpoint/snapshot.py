"""Copies states to CPU memory, so that threads can write them while training continues."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from runtime.checkpoint.formats import Part
from runtime.checkpoint.memory import id_tensor_storage, is_plain
from runtime.checkpoint.transfer import Transfer

_NUMBERS = {int, float}
_PINNED = {"cuda", "xpu"}  # device types that copy asynchronously to pinned memory


class Snapshots:
    """Takes snapshots of states, one at a time, and reuses the memory of the previous snapshot."""

    def __init__(self, device: torch.device) -> None:
        """Begin without a snapshot.

        Args:
            device: the device of most tensors.
        """
        self._is_pinned = device.type in _PINNED
        self._held: dict[Any, list[torch.Tensor]] = {}  # what a copy is like -> copies in use

    def take(self, state: Any) -> Any:
        """Return a deep copy of a state, with all tensors in CPU memory.

        Tensors are found anywhere in the state, also in objects of the script's own classes.
        Tensors that share a storage also share one in the copy; it is copied once. The previous
        snapshot becomes invalid, because its memory is reused for tensors of the same shapes.

        Args:
            state: any object that can be copied with `copy.deepcopy`.
        """
        free, self._held = self._held, defaultdict(list)
        storages: dict[tuple[torch.device, int, int], torch.UntypedStorage] = {}
        transfer = Transfer()

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            place = id_tensor_storage(tensor)
            if place in storages:
                return _view(storages[place], tensor)
            found = self._like(tensor, place, free)
            storages[place] = found.untyped_storage()
            transfer.add(tensor.untyped_storage(), storages[place])
            return found

        # `deepcopy` takes from the memo what it has; it takes far longer for a tensor, and for the
        # hundreds of numbers that are the state of a random generator.
        memo = {id(one): one if isinstance(one, tuple) else copied(one) for one in _leaves(state)}
        with _Copying(copied):
            found = copy.deepcopy(state, memo)
        transfer.complete()
        return found

    def _like(
        self, tensor: torch.Tensor, place: Any, free: dict[Any, list[torch.Tensor]]
    ) -> torch.Tensor:
        """Return a tensor on a CPU storage of its own, which is like another one except its values.

        Args:
            tensor: the other tensor.
            place: its storage, as `id_tensor_storage` returns it.
            free: the tensors of the previous snapshot; this function takes one out if it fits.
        """
        device, _, bytes_ = place
        is_pinned = self._is_pinned and device.type in _PINNED
        view = tensor.storage_offset(), tensor.size(), tensor.stride()
        kind = bytes_, is_pinned, tensor.dtype, tensor.requires_grad, *view
        if free.get(kind):
            found = free[kind].pop()
        else:
            made = torch.empty(bytes_, dtype=torch.uint8, pin_memory=is_pinned)
            found = _view(made.untyped_storage(), tensor)
        self._held[kind].append(found)
        return found


def _leaves(state: Any) -> Iterator[Any]:
    """Yield the plain tensors without attributes, and the tuples of numbers, of a state.

    Only containers are looked through: those in other objects are not found.
    """
    waiting, seen = [state], set()
    while waiting:
        one = waiting.pop()
        if type(one) is torch.Tensor:
            if is_plain(one) and not vars(one):
                yield one
        elif type(one) is tuple and set(map(type, one)) <= _NUMBERS:
            yield one
        elif isinstance(one, dict | list | tuple | Part) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(_items(one))


def _items(container: Any) -> Any:
    if isinstance(container, Part):
        return [container.state]
    return container.values() if isinstance(container, dict) else container


def _view(storage: torch.UntypedStorage, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the dtype, shape and strides of another one, on a copied storage."""
    place = like.storage_offset(), like.size(), like.stride()
    one = torch.empty(0, dtype=like.dtype).set_(storage, *place)
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
