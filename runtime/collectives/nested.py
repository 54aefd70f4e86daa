"""Tensors inside of lists, tuples and dicts: done to each, the structure kept.

A namedtuple stays one, and a dict of the script's own kind is made again as that kind.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from runtime.world.mappings import remade


@dataclass
class TensorInformation:
    """What a tensor is, without its numbers."""

    shape: torch.Size
    dtype: torch.dtype


def is_torch_tensor(tensor: Any) -> bool:
    """Whether it is a tensor."""
    return isinstance(tensor, torch.Tensor)


def is_tensor_information(tensor_info: Any) -> bool:
    """Whether it stands for a tensor."""
    return isinstance(tensor_info, TensorInformation)


def is_namedtuple(data: Any) -> bool:
    """Whether it is a namedtuple, or something that behaves as one."""
    return isinstance(data, tuple) and hasattr(data, "_asdict") and hasattr(data, "_fields")


def honor_type(obj: Any, generator: Iterable[Any]) -> Any:
    """A list, tuple or namedtuple of `obj`'s type with other items."""
    return type(obj)(*generator) if is_namedtuple(obj) else type(obj)(generator)


def map_items(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply a function to each item of a list, tuple or dict; anything else stays as it is."""
    if isinstance(data, list | tuple):
        return honor_type(data, map(function, data))
    if isinstance(data, Mapping):
        return remade(data, {key: function(item) for key, item in data.items()})
    return data


def recursively_apply(
    func: Callable[..., Any],
    data: Any,
    *args: Any,
    test_type: Callable[[Any], bool] = is_torch_tensor,
    error_on_other_type: bool = False,
    **kwargs: Any,
) -> Any:
    """Apply a function to every object of a kind, however nested.

    Args:
        func: gets the object, `args` and `kwargs`.
        data: lists, tuples and dicts of anything.
        *args: for the function.
        test_type: tells the kind.
        error_on_other_type: whether anything else is an error; otherwise it stays as it is.
        **kwargs: for the function.

    Raises:
        TypeError: something is of another kind, and that is an error.
    """
    if isinstance(data, list | tuple | Mapping):
        options: dict[str, Any] = kwargs | {"test_type": test_type}
        options["error_on_other_type"] = error_on_other_type
        return map_items(lambda item: recursively_apply(func, item, *args, **options), data)
    if test_type(data):
        return func(data, *args, **kwargs)
    if error_on_other_type:
        sentence = (
            f"Unsupported types ({type(data)}) passed to `{func.__name__}`. Only nested "
            "list/tuple/dicts of objects that are valid for "
            f"`{test_type.__name__}` should be passed."
        )
        raise TypeError(sentence)
    return data


def map_tensors(function: Callable[[torch.Tensor], Any], data: Any) -> Any:
    """Apply a function to every tensor; everything else stays as it is.

    >>> map_tensors(lambda t: t + 1, {"a": (torch.tensor(1), "x")})
    {'a': (tensor(2), 'x')}
    """
    if isinstance(data, torch.Tensor):
        return function(data)
    return map_items(partial(map_tensors, function), data)


def leaves(data: Any) -> list[Any]:
    """Everything that is not a container, in order.

    >>> leaves([1, {"a": (2, 3)}])
    [1, 2, 3]
    """
    if isinstance(data, list | tuple):
        return [leaf for item in data for leaf in leaves(item)]
    if isinstance(data, Mapping):
        return [leaf for item in data.values() for leaf in leaves(item)]
    return [data]


def send_to_device(
    tensor: Any,
    device: torch.device | str,
    non_blocking: bool = False,
    skip_keys: str | list[str] | None = None,
) -> Any:
    """The same data with every tensor on a device; tensors that are there are not copied.

    An object with a method `to` of its own, such as a graph or a tokenizer's output, goes by that.

    Args:
        tensor: data, however nested.
        device: where to.
        non_blocking: do not wait for the copy; needs pinned memory.
        skip_keys: keys of dicts whose values stay where they are.
    """
    if isinstance(tensor, torch.Tensor):
        return tensor.to(device, non_blocking=non_blocking)
    kind = type(tensor)
    if kind is list or kind is tuple:  # most batches are
        return kind([send_to_device(one, device, non_blocking, skip_keys) for one in tensor])
    if hasattr(tensor, "to"):
        return _send_object(tensor, device, non_blocking)
    send = partial(
        send_to_device, device=device, non_blocking=non_blocking, skip_keys=skip_keys or []
    )
    if skip_keys and isinstance(tensor, Mapping):
        skipped = [skip_keys] if isinstance(skip_keys, str) else skip_keys
        return remade(tensor, {k: v if k in skipped else send(v) for k, v in tensor.items()})
    return map_items(send, tensor)


def _send_object(thing: Any, device: torch.device | str, non_blocking: bool) -> Any:
    try:
        return thing.to(device, non_blocking=non_blocking)
    except TypeError:  # its method has no such argument
        return thing.to(device)


def get_data_structure(data: Any) -> Any:
    """The same data with the shape and dtype of each tensor in its place."""
    return map_tensors(lambda tensor: TensorInformation(tensor.shape, tensor.dtype), data)


def get_shape(data: Any) -> Any:
    """The same data with the shape of each tensor, as a list, in its place."""
    return map_tensors(lambda tensor: list(tensor.shape), data)


def initialize_tensors(data_structure: Any) -> Any:
    """The reverse of `get_data_structure`: tensors whose numbers are not set."""
    return recursively_apply(
        lambda info: torch.empty(*info.shape, dtype=info.dtype),
        data_structure,
        test_type=is_tensor_information,
    )


def find_batch_size(data: Any) -> int:
    """Length of the first tensor.

    Raises:
        ValueError: there is nothing in the first container.
        TypeError: the first thing is no tensor.
    """
    while isinstance(data, list | tuple | Mapping):
        if not data:
            sentence = f"Cannot find the batch size from empty {type(data)}."
            raise ValueError(sentence)
        data = next(iter(data.values() if isinstance(data, Mapping) else data))
    if not isinstance(data, torch.Tensor):
        sentence = f"Can only find the batch size of tensors but got {type(data)}."
        raise TypeError(sentence)
    return data.shape[0]


def ignorant_find_batch_size(data: Any) -> int | None:
    """Length of the first tensor; None if it cannot be told."""
    try:
        return find_batch_size(data)
    except (ValueError, TypeError):
        return None


def listify(data: Any) -> Any:
    """The same data with the numbers of each tensor in its place."""
    return map_tensors(lambda tensor: tensor.detach().cpu().tolist(), data)


def slice_tensors(
    data: Any,
    tensor_slice: Any,
    process_index: int | None = None,  # noqa: ARG001  # accelerate's signature
    num_processes: int | None = None,  # noqa: ARG001
) -> Any:
    """The same slice of every tensor."""
    return map_tensors(lambda tensor: tensor[tensor_slice], data)


def concatenate(data: Any, dim: int = 0) -> Any:
    """Join batches of one structure, tensor by tensor.

    Args:
        data: a list of batches; a single one may be of anything.
        dim: the dimension to join along.

    Raises:
        TypeError: several batches hold something that is no tensor.
    """
    one = data[0]
    if isinstance(one, list | tuple):
        return honor_type(one, (concatenate([d[i] for d in data], dim) for i in range(len(one))))
    if isinstance(one, Mapping):
        return remade(one, {key: concatenate([d[key] for d in data], dim) for key in one})
    if isinstance(one, torch.Tensor):
        return torch.cat(data, dim)
    if len(data) == 1:
        return one
    sentence = f"Can only concatenate tensors but got {type(one)}"
    raise TypeError(sentence)


def find_device(data: Any) -> torch.device | None:
    """Where the first tensor lies; None if there is none."""
    return next((leaf.device for leaf in leaves(data) if isinstance(leaf, torch.Tensor)), None)


def merge_dicts(source: Mapping[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """Put one dict into another, dicts in it likewise; returns the other one.

    >>> merge_dicts({"a": {"b": 1}}, {"a": {"c": 2}})
    {'a': {'c': 2, 'b': 1}}
    """
    for key, value in source.items():
        if isinstance(value, dict):
            merge_dicts(value, destination.setdefault(key, {}))
        else:
            destination[key] = value
    return destination
