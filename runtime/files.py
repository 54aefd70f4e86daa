"""Saving and loading objects; nothing that a file says is executed when it is loaded."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from runtime.availability import is_present
from runtime.nested import map_tensors
from runtime.state import PartialState
from runtime.warn import warn_once

SAFETENSORS = ".safetensors"


def save(
    obj: Any,
    f: str | os.PathLike[str],
    save_on_each_node: bool = False,
    safe_serialization: bool = False,
) -> None:
    """Save an object, on the main process only.

    Args:
        obj: what torch.save takes; for safetensors a dict of tensors.
        f: the file.
        save_on_each_node: on the first process of each machine instead.
        safe_serialization: as safetensors.
    """
    state = PartialState()
    if not (state.is_local_main_process if save_on_each_node else state.is_main_process):
        return
    if safe_serialization:
        safetensors = importlib.import_module("safetensors.torch")
        safetensors.save_file(clean_state_dict_for_safetensors(obj), f, metadata={"format": "pt"})
    else:
        torch.save(obj, f)


def load(f: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """Load what `save` has saved; tensors, numbers, texts and containers of these only.

    Args:
        f: the file, by name or open.
        map_location: where tensors go.
        **kwargs: for torch.load; `weights_only=False` takes any object, and trusts the file.
    """
    kwargs.setdefault("weights_only", True)
    if not kwargs["weights_only"]:
        return torch.load(f, map_location=map_location, **kwargs)
    with torch.serialization.safe_globals(_harmless()):
        return torch.load(f, map_location=map_location, **kwargs)


def _harmless() -> list[Any]:
    """What Accelerate's files hold besides: arrays of numpy."""
    if not is_present("numpy"):
        return []
    numpy = importlib.import_module("numpy")
    core = importlib.import_module("numpy._core.multiarray")
    return [
        (core._reconstruct, "numpy.core.multiarray._reconstruct"),  # noqa: SLF001  # as pickles name it
        core._reconstruct,  # noqa: SLF001
        numpy.ndarray,
        numpy.dtype,
        type(numpy.dtype(numpy.uint32)),
    ]


def can_be_safetensors(wanted: bool) -> bool:
    """Whether weights are written as safetensors: if wanted, and if the package is there."""
    if wanted and not is_present("safetensors"):
        warn_once("safetensors is not installed: weights are saved by torch.save instead")
        return False
    return wanted


def clean_state_dict_for_safetensors(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a model, contiguous, and of those that share their memory the first only."""
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in state_dict.items():
        if isinstance(tensor, torch.Tensor):
            seen.setdefault(_place(name, tensor), name)
    return {name: state_dict[name].contiguous() for name in seen.values()}


def _place(name: str, tensor: torch.Tensor) -> tuple[Any, ...]:
    """Where a tensor's memory is; one without any is its own."""
    if not tensor.numel():
        return (name,)
    return (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())


def load_weights(path: Path, map_location: Any) -> dict[str, torch.Tensor]:
    """A model's weights from a file of either kind."""
    if path.suffix == SAFETENSORS:
        safetensors = importlib.import_module("safetensors.torch")
        weights: dict[str, torch.Tensor] = safetensors.load_file(path, device=str(map_location))
        return weights
    loaded: dict[str, torch.Tensor] = load(path, map_location=map_location)
    return loaded


def on_cpu(state: Any) -> Any:
    """The same with every tensor on the CPU."""
    return map_tensors(lambda tensor: tensor.detach().cpu(), state)
