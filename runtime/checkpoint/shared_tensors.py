"""Tensors that share memory: one of them is saved, and the others are views of it again.

Which were left out of a file is said in its metadata, so that it also loads into a model whose
tensors do not share memory, as after a move to another device.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from runtime.checkpoint.memory import id_tensor_storage, is_plain

_KEY = "shared_tensors"  # in the metadata of a safetensors file


@dataclass(frozen=True)
class View:
    """A tensor in the memory of another one: the same, or elements of other sizes and strides."""

    of: str  # the other one's name
    dtype: str | None = None  # None: the same
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0  # bytes

    def __post_init__(self) -> None:
        """Check what may have come out of a file.

        Raises:
            ValueError: it describes no tensor.
        """
        numbers = [*self.shape, *self.stride, self.offset]
        is_sound = all(type(one) is int and 0 <= one < 2**63 for one in numbers)
        is_dtype = self.dtype is None or isinstance(getattr(torch, self.dtype, None), torch.dtype)
        if not (is_sound and is_dtype and len(self.shape) == len(self.stride)):
            sentence = f"a view must have a dtype of torch and a stride for each size, got {self}"
            raise ValueError(sentence)

    @classmethod
    def between(cls, one: torch.Tensor, other: torch.Tensor, of: str) -> Self:
        """Of a tensor within another one, which is contiguous."""
        dtype = str(one.dtype).removeprefix("torch.")
        offset = one.data_ptr() - other.data_ptr()
        return cls(of, dtype, tuple(one.shape), tuple(one.stride()), offset)

    def within(self, other: torch.Tensor) -> torch.Tensor:
        """The view, of the other one's values.

        Raises:
            ValueError: it has values that the other one has not.
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
    """Tensors by where they are in memory."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self._first: dict[Any, str] = {}  # of those that are the same
        self._whole: dict[Any, str] = {}  # that have all of a memory, one after the other
        for name, one in tensors.items():
            self._first.setdefault(_place(one), name)
            if is_plain(one) and one.is_contiguous():
                memory = id_tensor_storage(one)
                if one.nbytes == memory[-1]:
                    self._whole.setdefault(memory, name)

    def view(self, name: str, one: Any) -> View | None:
        """A tensor as a view of one of these by another name; None if it is none."""
        whole = self._whole.get(id_tensor_storage(one)) if is_plain(one) else None
        if whole is not None and one.nbytes <= self.tensors[whole].nbytes:
            other = self.tensors[whole]
            if whole == name or _place(other) == _place(one):
                return None if whole == name else View(whole)
            return View.between(one, other, whole)
        first = self._first.get(_place(one), name)
        return None if first == name else View(first)


def _place(one: Any) -> tuple[Any, ...]:
    """The same for tensors that are one: by their values' addresses, or else by the object's."""
    if not is_plain(one):
        return (id(one),)
    return id_tensor_storage(one), one.data_ptr(), one.dtype, one.shape, one.stride()


def divided(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, View]]:
    """The tensors of a state that are to be saved, and those that are views of one of them.

    Args:
        state: by name.

    Raises:
        TypeError: something is no tensor.
    """
    wrong = sorted(name for name, one in state.items() if not isinstance(one, torch.Tensor))
    if wrong:
        sentence = (
            f"safetensors has tensors only, and these are none: {wrong}; save them with "
            "safe_serialization=False"
        )
        raise TypeError(sentence)
    memories = _Memories(state)
    found = {name: memories.view(name, one) for name, one in state.items()}
    kept = {name: state[name] for name, view in found.items() if view is None}
    return kept, {name: view for name, view in found.items() if view is not None}


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors takes them: contiguous, and each in memory of its own."""
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
    """Views for the metadata of the file that has the tensors which they are of."""
    if not views:
        return {}
    return {_KEY: json.dumps({name: asdict(view) for name, view in views.items()})}


def with_views(
    weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """A file's tensors, and the views of them that its metadata says.

    Raises:
        ValueError: what it says is no view of them.
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
    """Weights with those that a model has in the memory of others of them.

    Args:
        weights: by name; a file of Accelerate's has one of several tensors that share memory.
        own: the model's tensors by name.
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
    """The same view of what was saved as of a model's own, if that fits."""
    if view.dtype is None or saved.shape != own.shape:
        return saved  # which a model that it does not fit refuses
    return view.within(saved.to(own.dtype))
