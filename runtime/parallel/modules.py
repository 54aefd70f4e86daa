"""Finds, measures and replaces the tensors and modules of a model."""

import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from runtime.config.availability import is_present
from runtime.parallel.wrap import extract_model_from_parallel

_FP8_MULTIPLE = 16  # the sizes of a layer that fp8 kernels support are multiples of it


def is_peft_model(model: nn.Module) -> bool:
    """Whether a model, prepared or not, is a PeftModel.

    Args:
        model: the model.
    """
    if not is_present("peft"):
        return False
    kind = importlib.import_module("peft").PeftModel
    return isinstance(extract_model_from_parallel(model), kind)


def named_module_tensors(
    module: nn.Module,
    include_buffers: bool = True,
    recurse: bool = False,
    remove_non_persistent: bool = False,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters of a module, and then its buffers, with their names.

    Args:
        module: the module.
        include_buffers: whether buffers are yielded.
        recurse: whether those of the modules inside are yielded, too.
        remove_non_persistent: whether buffers that are not in the state dict are left out.
    """
    yield from module.named_parameters(recurse=recurse)
    if not include_buffers:
        return
    unsaved = get_non_persistent_buffers(module, recurse, fqns=True)
    for name, buffer in module.named_buffers(recurse=recurse):
        if not (remove_non_persistent and name in unsaved):
            yield name, buffer


def get_non_persistent_buffers(
    module: nn.Module, recurse: bool = False, fqns: bool = False
) -> set[str]:
    """Return the names of the buffers that are not in the state dict of a module.

    Args:
        module: the module.
        recurse: whether those of the modules inside are included.
        fqns: whether the names include those of the modules inside, as in a state dict.
    """
    owners = module.named_modules() if recurse else [("", module)]
    return {
        f"{owner}.{name}" if fqns and owner else name
        for owner, one in owners
        for name in one._non_persistent_buffers_set  # noqa: SLF001  # torch has no public name
    }


def compute_module_sizes(
    model: nn.Module,
    dtype: str | torch.dtype | None = None,
    special_dtypes: dict[str, str | torch.dtype] | None = None,
    buffers_only: bool = False,
) -> dict[str, int]:
    """Return the bytes of the tensors in each module, by its name; "" is the whole model.

    Args:
        model: the model. Names of single tensors are in the result, too.
        dtype: the dtype to which floating-point tensors of larger dtypes would be converted.
        special_dtypes: dtypes of single tensors, by name.
        buffers_only: whether parameters are left out.
    """
    special = {name: _dtype(one) for name, one in (special_dtypes or {}).items()}
    limit = None if dtype is None else _dtype(dtype)
    tensors = model.named_buffers() if buffers_only else named_module_tensors(model, recurse=True)
    sizes: dict[str, int] = defaultdict(int)
    for name, tensor in tensors:
        bytes_each = tensor.dtype.itemsize
        if name in special:
            bytes_each = special[name].itemsize
        elif limit is not None and tensor.is_floating_point():
            bytes_each = min(bytes_each, limit.itemsize)
        words = name.split(".")
        for end in range(len(words) + 1):
            sizes[".".join(words[:end])] += tensor.numel() * bytes_each
    return sizes


def _dtype(said: str | torch.dtype) -> torch.dtype:
    """Return a dtype by its name, with or without `torch.`."""
    if isinstance(said, torch.dtype):
        return said
    found = getattr(torch, said.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        sentence = f"a dtype must be one of torch's or its name, such as 'bfloat16', got {said!r}"
        raise ValueError(sentence)  # noqa: TRY004  # the type is right, the name is not
    return found


def set_module_tensor_to_device(
    module: nn.Module,
    tensor_name: str,
    device: int | str | torch.device,
    value: torch.Tensor | None = None,
    dtype: str | torch.dtype | None = None,
    fp16_statistics: torch.Tensor | None = None,
    tied_params_map: Any = None,
    non_blocking: bool = False,
    clear_cache: bool = True,  # noqa: ARG001  # accelerate's signature
) -> None:
    """Move a parameter or buffer of a module to a device, or replace its value there.

    Args:
        module: the module.
        tensor_name: the name of the tensor, with those of the modules inside.
        device: the device.
        value: the new value; required if the tensor is on the meta device.
        dtype: the dtype of the new value; by default that of the tensor. Values that are not
            floating-point keep theirs.
        fp16_statistics: must be None: quantized weights are not supported.
        tied_params_map: must be None: a model on several devices is not supported.
        non_blocking: whether the host does not wait for the copy.
        clear_cache: ignored; torch's allocator keeps its memory.

    Raises:
        NotImplementedError: an argument for quantized or dispatched models is given.
        ValueError: there is no such tensor, its shape differs, or a value is missing.
    """
    if fp16_statistics is not None or tied_params_map is not None:
        sentence = (
            "set_module_tensor_to_device() supports neither fp16_statistics nor tied_params_map: "
            "for quantized models, and models on several devices, use accelerate itself"
        )
        raise NotImplementedError(sentence)
    owner_name, _, name = tensor_name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if name not in owner._parameters and name not in owner._buffers:  # noqa: SLF001  # an attribute need not be a tensor of the module
        sentence = f"{type(owner).__name__} does not have a parameter or a buffer named {name!r}"
        raise ValueError(sentence)
    old = getattr(owner, name)
    made = _moved(tensor_name, old, device, value, dtype, non_blocking=non_blocking)
    if isinstance(old, nn.Parameter):
        made = nn.Parameter(made, requires_grad=old.requires_grad)
    setattr(owner, name, made)


def _moved(
    name: str,
    old: torch.Tensor,
    device: int | str | torch.device,
    value: torch.Tensor | None,
    dtype: str | torch.dtype | None,
    *,
    non_blocking: bool,
) -> torch.Tensor:
    """Return the tensor that replaces `old`."""
    if value is None:
        if old.is_meta and torch.device(device).type != "meta":
            sentence = f"{name} is on the meta device: pass a `value` to have it on {device}"
            raise ValueError(sentence)
        return old.detach().to(device, non_blocking=non_blocking)
    if old.shape != value.shape:
        sentence = (
            f"the value for {name!r} must have the shape {tuple(old.shape)}, "
            f"got {tuple(value.shape)}"
        )
        raise ValueError(sentence)
    if dtype is None:
        wanted = old.dtype
    else:
        wanted = _dtype(dtype) if value.is_floating_point() else value.dtype
    return value.detach().to(device, wanted, non_blocking=non_blocking)


def get_module_children_bottom_up(model: nn.Module, return_fqns: bool = False) -> list[Any]:
    """Return all modules of a model, each after those inside it; the model itself is the last.

    Args:
        model: the model.
        return_fqns: whether the elements are pairs of name and module.
    """
    pairs: list[tuple[str, nn.Module]] = []
    following = [("", model)]
    while following:
        name, module = following.pop()
        pairs.append((name, module))
        following += [
            (f"{name}.{own}" if name else own, one) for own, one in module.named_children()
        ]
    return pairs[::-1] if return_fqns else [module for _, module in pairs[::-1]]


def get_module_class_from_name(module: nn.Module, name: str) -> type[nn.Module] | None:
    """Return the class of a name among those of a module and the modules inside it, or None.

    Args:
        module: the module.
        name: the name of the class.
    """
    return next((type(one) for one in module.modules() if type(one).__name__ == name), None)


def get_parameters_from_modules(
    modules: Iterable[nn.Module] | str | None, model: nn.Module, device: Any
) -> set[nn.Parameter]:
    """Return the parameters of some modules of a model.

    Args:
        modules: the modules; or a regular expression that matches their whole names, which also
            moves them to the device. None: no modules.
        model: the model.
        device: the device.
    """
    if isinstance(modules, str):
        named = model.named_modules()
        modules = [one.to(device) for name, one in named if re.fullmatch(modules, name)]
    return {parameter for module in modules or () for parameter in module.parameters()}


def find_first_last_linear_layers(model: nn.Module) -> tuple[str | None, str | None]:
    """Return the names of the first and the last linear layer, which fp8 usually leaves out.

    Args:
        model: the model.
    """
    names = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    return (names[0], names[-1]) if names else (None, None)


def filter_linear_layers(module: nn.Module, fqn: str, layers_to_filter: Iterable[str]) -> bool:
    """Whether fp8 can compute a layer: its sizes are multiples of 16, and it is not left out.

    Args:
        module: the layer.
        fqn: its name in the model.
        layers_to_filter: the names of the layers that are left out.
    """
    if isinstance(module, nn.Linear):
        sizes = (module.in_features, module.out_features)
        if any(size % _FP8_MULTIPLE for size in sizes):
            return False
    return fqn not in layers_to_filter
