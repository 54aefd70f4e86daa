"""Copies states to CPU memory, so that threads can write them while training continues."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from runtime.checkpoint.copies import Copies
from runtime.checkpoint.formats import Part
from runtime.checkpoint.lanes import Lane, lane_of
from runtime.checkpoint.memory import id_tensor_storage, is_plain
from runtime.checkpoint.transfer import Transfer

_NUMBERS = {int, float}
_Place = tuple[torch.device, int, int]  # of a storage: its device, address and bytes


class Snapshots:
    """Takes snapshots of states, one at a time, and reuses the memory of the previous snapshot.

    Attributes:
        copies: the copies of the last snapshot, which an accelerator may still be making.
    """

    def __init__(self, lane_of: Callable[[torch.device], Lane | None] = lane_of) -> None:
        """Begin without a snapshot.

        Args:
            lane_of: returns what copies from a device; None for devices whose copies the host
                waits for.
        """
        self._lane_of = lane_of
        self._lanes: dict[torch.device, Lane | None] = {}
        self._held: dict[Any, list[torch.Tensor]] = {}  # what a copy is like -> copies in use
        self.copies = Copies()

    def __reduce__(self) -> tuple[type["Snapshots"], tuple[()]]:
        """Pickle without a snapshot; an Accelerator may be pickled."""
        return Snapshots, ()

    def take(self, state: Any, beside: Iterable[torch.Tensor] = ()) -> Any:
        """Return a deep copy of a state, with all tensors in CPU memory.

        Tensors are found anywhere in the state, also in objects of the script's own classes.
        Tensors that share a storage also share one in the copy; it is copied once. The previous
        snapshot becomes invalid, because its memory is reused for tensors of the same shapes.

        Tensors of accelerators have their values after `copies.wait`.

        Args:
            state: any object that can be copied with `copy.deepcopy`.
            beside: tensors of accelerators that do not change before `copies.hold` is called: they
                are copied beside what the accelerator does next. Others are copied before.
        """
        self.copies.settle()  # into the memory that is used again
        free, self._held = self._held, defaultdict(list)
        lasting = {id_tensor_storage(one): one for one in beside if self._is_counted(one)}
        storages: dict[_Place, torch.UntypedStorage] = {}
        transfer = Transfer()

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            place = id_tensor_storage(tensor)
            if place in storages:
                return _view(storages[place], tensor)
            lane = self._lane(place[0])
            found = self._like(tensor, place[2], lane, free)
            storages[place] = target = found.untyped_storage()
            source = tensor.untyped_storage()
            if lane is None:
                transfer.add(source, target)
            else:
                transfer.add_to(lane, source, target, beside=place in lasting)
            return found

        # `deepcopy` takes from the memo what it has; it takes far longer for a tensor, and for the
        # hundreds of numbers that are the state of a random generator.
        memo = {id(one): one if isinstance(one, tuple) else copied(one) for one in _leaves(state)}
        with _Copying(copied):
            found = copy.deepcopy(state, memo)
        kept = [one for place, one in lasting.items() if place in storages]
        self.copies = Copies(transfer.complete(), kept)
        return found

    def _lane(self, device: torch.device) -> Lane | None:
        if device not in self._lanes:
            self._lanes[device] = self._lane_of(device)
        return self._lanes[device]

    def copies_beside(self, device: torch.device) -> bool:
        """Whether tensors of a device can be copied beside what it computes."""
        return self._lane(device) is not None

    def _is_counted(self, tensor: torch.Tensor) -> bool:
        """Whether a lane copies this tensor, and torch counts its changes."""
        has_lane = self.copies_beside(tensor.device)
        return has_lane and is_plain(tensor) and not tensor.is_inference()

    def _like(
        self,
        tensor: torch.Tensor,
        bytes_: int,
        lane: Lane | None,
        free: dict[Any, list[torch.Tensor]],
    ) -> torch.Tensor:
        """Return a tensor on a CPU storage of its own, which is like another one except its values.

        Args:
            tensor: the other tensor.
            bytes_: the bytes of its storage.
            lane: what copies it; None if the host does.
            free: the tensors of the previous snapshot; this function takes one out if it fits.
        """
        view = tensor.storage_offset(), tensor.size(), tensor.stride()
        kind = bytes_, lane, tensor.dtype, tensor.requires_grad, *view
        if free.get(kind):
            found = free[kind].pop()
        else:
            memory = torch.empty(bytes_, dtype=torch.uint8) if lane is None else lane.empty(bytes_)
            found = _view(memory.untyped_storage(), tensor)
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
