"""Saves tensors that share memory once, and restores the others as views.

safetensors cannot store shared memory. The metadata of the file describes the tensors that were
left out, so that it can also be loaded into a model whose tensors do not share memory, for example
because they were moved to another device.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from runtime.checkpoint.memory import id_tensor_storage, is_plain

_KEY = "shared_tensors"  # the key in the metadata of a safetensors file


@dataclass(frozen=True)
class View:
    """Describes a tensor as a view of another one, the base, which has all of its memory.

    Attributes:
        of: the name of the base.
        dtype: the name of the view's dtype, without `torch.`; None if the view is the base itself,
            and shape, stride and offset are unused.
        shape: the size of each dimension.
        stride: the stride of each dimension, in elements.
        offset: the start of the view in the base, in bytes.

    Raises:
        ValueError: the dtype is unknown, a number is not an int in [0, 2**63), or shape and stride
            differ in length.
    """

    of: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0

    def __post_init__(self) -> None:
        """Check the fields, which may come from a file."""
        numbers = [*self.shape, *self.stride, self.offset]
        is_sound = all(type(one) is int and 0 <= one < 2**63 for one in numbers)
        is_dtype = self.dtype is None or isinstance(getattr(torch, self.dtype, None), torch.dtype)
        if not (is_sound and is_dtype and len(self.shape) == len(self.stride)):
            sentence = f"a view must have a torch dtype and a stride per dimension, got {self}"
            raise ValueError(sentence)

    @classmethod
    def between(cls, one: torch.Tensor, other: torch.Tensor, of: str) -> Self:
        """Return the view that describes a tensor.

        Args:
            one: the tensor.
            other: the base: a contiguous tensor whose memory includes the tensor's.
            of: the name of the base.
        """
        dtype = str(one.dtype).removeprefix("torch.")
        offset = one.data_ptr() - other.data_ptr()
        return cls(of, dtype, tuple(one.shape), tuple(one.stride()), offset)

    def within(self, other: torch.Tensor) -> torch.Tensor:
        """Return the described tensor, with the values of a base.

        Args:
            other: the base.

        Raises:
            ValueError: the view does not lie within the base.
        """
        if self.dtype is None:
            return other
        dtype: torch.dtype = getattr(torch, self.dtype)
        pairs = zip(self.shape, self.stride, strict=True)
        last = sum(max(size - 1, 0) * step for size, step in pairs)
        end = self.offset + (last + 1) * dtype.itemsize
        size = math.prod(self.shape) * dtype.itemsize
        if self.offset % dtype.itemsize or max(end, size) > other.nbytes:
            sentence = f"{self} must lie within the {other.nbytes} bytes of {self.of}"
            raise ValueError(sentence)
        part = other.contiguous().flatten().view(torch.uint8)[self.offset : end].view(dtype)
        return part.as_strided(self.shape, self.stride)


class _Memories:
    """Finds tensors that share memory."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self._first: dict[Any, str] = {}  # result of `_place` -> name of the first tensor with it
        self._whole: dict[Any, str] = {}  # storage -> name of a contiguous tensor that fills it
        for name, one in tensors.items():
            self._first.setdefault(_place(one), name)
            if is_plain(one) and one.is_contiguous():
                memory = id_tensor_storage(one)
                if one.nbytes == memory[-1]:
                    self._whole.setdefault(memory, name)

    def view(self, name: str, one: Any) -> View | None:
        """Return a tensor as a view of one with another name; None if there is no such tensor."""
        whole = self._whole.get(id_tensor_storage(one)) if is_plain(one) else None
        if whole is not None and one.nbytes <= self.tensors[whole].nbytes:
            other = self.tensors[whole]
            if whole == name or _place(other) == _place(one):
                return None if whole == name else View(whole)
            return View.between(one, other, whole)
        first = self._first.get(_place(one), name)
        return None if first == name else View(first)


def _place(one: Any) -> tuple[Any, ...]:
    """Return a key that is equal for tensors with the same elements in memory.

    Tensors without plain storage, and other values, are identified by their id.
    """
    if not is_plain(one):
        return (id(one),)
    return id_tensor_storage(one), one.data_ptr(), one.dtype, one.shape, one.stride()


def divided(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, View]]:
    """Divide a state dict into the tensors to save and the views of these.

    Args:
        state: name -> tensor.

    Returns:
        The tensors and the views, each by name.

    Raises:
        TypeError: a value is not a tensor.
    """
    wrong = sorted(name for name, one in state.items() if not isinstance(one, torch.Tensor))
    if wrong:
        sentence = (
            f"safetensors stores only tensors, and these are not tensors: {wrong}; save them with "
            "safe_serialization=False"
        )
        raise TypeError(sentence)
    memories = _Memories(state)
    found = {name: memories.view(name, one) for name, one in state.items()}
    kept = {name: state[name] for name, view in found.items() if view is None}
    return kept, {name: view for name, view in found.items() if view is not None}


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors as safetensors accepts them: contiguous and without shared storages."""
    found: dict[str, torch.Tensor] = {}
    seen: set[Any] = set()
    for name, one in tensors.items():
        found[name] = one.resolve_conj().resolve_neg().contiguous()
        if is_plain(found[name]):
            memory = id_tensor_storage(found[name])
            found[name] = found[name].clone() if memory in seen else found[name]
            seen.add(memory)
    return found


def to_metadata(views: Mapping[str, View]) -> dict[str, str]:
    """Return the metadata that describes views, for the file that has their bases."""
    if not views:
        return {}
    return {_KEY: json.dumps({name: asdict(view) for name, view in views.items()})}


def with_views(
    weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a file and the views that its metadata describes.

    Args:
        weights: the tensors of the file, by name.
        metadata: the metadata of the file.

    Raises:
        ValueError: the metadata does not describe views of these tensors.
    """
    try:
        views = {
            name: View(**(view | {key: tuple(view[key]) for key in ("shape", "stride")}))
            for name, view in json.loads(metadata.get(_KEY, "{}")).items()
        }
        made = {name: view.within(weights[view.of]) for name, view in views.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        sentence = f"the metadata's {_KEY} must be views of the file's tensors: {error!r}"
        raise ValueError(sentence) from error
    return made | dict(weights)


def filled(weights: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Add the missing weights that share memory with others in the model.

    A file that Accelerate has saved contains only one of several tensors that share memory.

    Args:
        weights: the weights of a file, by name.
        own: the model's tensors, by name.

    Returns:
        The weights with the added ones.
    """
    found = dict(weights)
    tensors = {name: one for name, one in own.items() if isinstance(one, torch.Tensor)}
    memories = _Memories({name: one for name, one in tensors.items() if name in weights})
    for name, one in tensors.items():
        view = memories.view(name, one) if name not in weights else None
        if view is not None:
            found[name] = _viewed(view, weights[view.of], tensors[view.of])
    return found


def _viewed(view: View, saved: Any, own: torch.Tensor) -> Any:
    """Return the view of a saved base that corresponds to a view in the model.

    Args:
        view: the view in the model.
        saved: the saved base.
        own: the base in the model.
    """
    if view.dtype is None or saved.shape != own.shape:
        return saved  # if the shape does not fit, load_state_dict reports it
    return view.within(saved.to(own.dtype))
