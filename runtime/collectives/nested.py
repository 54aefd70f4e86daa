"""Apply functions to tensors that are nested in lists, tuples and dicts, and keep the structure.

The types of namedtuples and of a script's dict classes are kept as well.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from runtime.world.mappings import remade


@dataclass
class TensorInformation:
    """The shape and dtype of a tensor, without its values.

    Attributes:
        shape: the shape of the tensor.
        dtype: the dtype of the tensor.
    """

    shape: torch.Size
    dtype: torch.dtype


def is_torch_tensor(tensor: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(tensor, torch.Tensor)


def is_tensor_information(tensor_info: Any) -> bool:
    """Whether an object is a TensorInformation."""
    return isinstance(tensor_info, TensorInformation)


def is_namedtuple(data: Any) -> bool:
    """Whether an object is a namedtuple, or a tuple with the same interface."""
    return isinstance(data, tuple) and hasattr(data, "_asdict") and hasattr(data, "_fields")


def honor_type(obj: Any, generator: Iterable[Any]) -> Any:
    """Return a list, tuple or namedtuple of the same type as `obj` with other items."""
    return type(obj)(*generator) if is_namedtuple(obj) else type(obj)(generator)


def map_items(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply a function to each item of a list, tuple or dict; return other objects unchanged."""
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
    """Apply a function to every object of some type in nested data.

    Args:
        func: the function; its arguments are the object, `args` and `kwargs`.
        data: nested lists, tuples and dicts.
        *args: further arguments of the function.
        test_type: whether the function is applied to an object; default: to tensors.
        error_on_other_type: whether any other object is an error; otherwise it stays unchanged.
        **kwargs: keyword arguments of the function.

    Raises:
        TypeError: there is another object, and `error_on_other_type` is true.
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
    """Apply a function to every tensor of nested data; other objects stay unchanged.

    >>> map_tensors(lambda t: t + 1, {"a": (torch.tensor(1), "x")})
    {'a': (tensor(2), 'x')}
    """
    if isinstance(data, torch.Tensor):
        return function(data)
    return map_items(partial(map_tensors, function), data)


def leaves(data: Any) -> list[Any]:
    """Return all objects in nested data that are not lists, tuples or dicts, in order.

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
    """Return nested data with every tensor on a device; tensors on that device are not copied.

    Other objects with a method `to`, for example graphs or a tokenizer's output, are moved by it.

    Args:
        tensor: the nested data.
        device: the device.
        non_blocking: whether to copy without waiting; requires pinned memory.
        skip_keys: the keys of dicts whose values are not moved.
    """
    if isinstance(tensor, torch.Tensor):
        return tensor.to(device, non_blocking=non_blocking)
    kind = type(tensor)
    if kind is list or kind is tuple:  # a fast path for most batches
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
    except TypeError:  # the method has no argument `non_blocking`
        return thing.to(device)


def get_data_structure(data: Any) -> Any:
    """Return nested data with a TensorInformation in place of each tensor."""
    return map_tensors(lambda tensor: TensorInformation(tensor.shape, tensor.dtype), data)


def get_shape(data: Any) -> Any:
    """Return nested data with the shape, as a list, in place of each tensor."""
    return map_tensors(lambda tensor: list(tensor.shape), data)


def initialize_tensors(data_structure: Any) -> Any:
    """Return nested data with an uninitialized tensor in place of each TensorInformation."""
    return recursively_apply(
        lambda info: torch.empty(*info.shape, dtype=info.dtype),
        data_structure,
        test_type=is_tensor_information,
    )


def find_batch_size(data: Any) -> int:
    """Return the length of the first tensor in nested data.

    Raises:
        ValueError: the first container is empty.
        TypeError: the first object is not a tensor.
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
    """Return the length of the first tensor in nested data; None if there is none."""
    try:
        return find_batch_size(data)
    except (ValueError, TypeError):
        return None


def listify(data: Any) -> Any:
    """Return nested data with a list of the values, or a number, in place of each tensor."""
    return map_tensors(lambda tensor: tensor.detach().cpu().tolist(), data)


def slice_tensors(
    data: Any,
    tensor_slice: Any,
    process_index: int | None = None,  # noqa: ARG001  # accelerate's signature
    num_processes: int | None = None,  # noqa: ARG001
) -> Any:
    """Return the same slice of every tensor in nested data.

    Args:
        data: the nested data.
        tensor_slice: the slice or index.
        process_index: accepted for compatibility and ignored.
        num_processes: accepted for compatibility and ignored.
    """
    return map_tensors(lambda tensor: tensor[tensor_slice], data)


def concatenate(data: Any, dim: int = 0) -> Any:
    """Concatenate batches of the same structure, tensor by tensor.

    Args:
        data: a list of batches; a single batch may also contain other objects.
        dim: the dimension along which tensors are concatenated.

    Raises:
        TypeError: several batches contain an object that is not a tensor.
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
    """Return the device of the first tensor in nested data; None if there is no tensor."""
    return next((leaf.device for leaf in leaves(data) if isinstance(leaf, torch.Tensor)), None)


def merge_dicts(source: Mapping[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """Merge a nested dict into another one, and return the other one.

    >>> merge_dicts({"a": {"b": 1}}, {"a": {"c": 2}})
    {'a': {'c': 2, 'b': 1}}

    Args:
        source: the dict to read.
        destination: the dict to change; values of `source` replace its values.
    """
    for key, value in source.items():
        if isinstance(value, dict):
            merge_dicts(value, destination.setdefault(key, {}))
        else:
            destination[key] = value
    return destination
