"""Saving and loading objects; nothing that a file says is executed when it is loaded."""

import importlib
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from runtime.checkpoint import shared_tensors
from runtime.checkpoint.trust.load import load_untrusted
from runtime.config.availability import is_present
from runtime.world.state import PartialState
from runtime.world.warn import warn_once

logger = logging.getLogger(__name__)
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Part:
    """One file of a checkpoint."""

    name: str
    state: Any
    is_safe: bool = False  # a model's weights, as safetensors

    def write(self, folder: Path) -> Path:
        """Write it, on whichever process this is; gives the file."""
        write(self.state, folder / self.name, self.is_safe)
        return folder / self.name


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
    if writes(save_on_each_node):
        write(obj, f, safe_serialization)


def writes(save_on_each_node: bool = False) -> bool:
    """Whether this process is one that saves: the main one, or each machine's first."""
    state = PartialState()
    return state.is_local_main_process if save_on_each_node else state.is_main_process


def write(obj: Any, f: str | os.PathLike[str], safe_serialization: bool = False) -> None:
    """Save an object, on whichever process this is."""
    if safe_serialization:
        safetensors = importlib.import_module("safetensors.torch")
        tensors, metadata = _cleaned(obj)
        safetensors.save_file(tensors, f, metadata={"format": "pt"} | metadata)
    else:
        torch.save(obj, f)


def load(f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, **kwargs: Any) -> Any:
    """Load what `save` has saved: tensors, numbers, texts, dates, numpy's arrays, containers.

    Args:
        f: the file, or its path.
        map_location: where tensors go.
        **kwargs: for torch.load; `weights_only=False` takes any object, and trusts the file.

    Raises:
        UnpicklingError: the file holds another object, is damaged, or asks for more memory than it
            has bytes.
    """
    kwargs.setdefault("weights_only", True)
    if not kwargs["weights_only"]:
        return torch.load(f, map_location=map_location, **kwargs)
    return load_untrusted(f, map_location, **kwargs)


def can_be_safetensors(wanted: bool, state: Mapping[str, Any]) -> bool:
    """Whether weights are written as safetensors: if wanted and the package is there.

    It has tensors only; a model may have states that are none (`get_extra_state`).
    """
    if not wanted:
        return False
    if not is_present("safetensors"):
        warn_once("safetensors is not installed: weights are saved by torch.save instead")
        return False
    others = sorted(name for name, one in state.items() if not isinstance(one, torch.Tensor))
    if others:
        warn_once(
            f"safetensors has tensors only, and {', '.join(others)} of the model are none: its "
            "weights are saved by torch.save instead"
        )
    return not others


def clean_state_dict_for_safetensors(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a model, contiguous, and of those that share their memory one only.

    Raises:
        TypeError: something is no tensor.
    """
    return _cleaned(state_dict)[0]


def _cleaned(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The same, and what the file's metadata says of those that are left out."""
    kept, views = shared_tensors.divided(state)
    if views:
        logger.warning(
            "Removed shared tensors %s while saving: they are in it by other names", sorted(views)
        )
    return shared_tensors.apart(kept), shared_tensors.to_metadata(views)


def load_weights(path: Path, map_location: Any, **kwargs: Any) -> dict[str, Any]:
    """A model's weights from a file of either kind; see `load_mapped`.

    Args:
        path: the file.
        map_location: where tensors go.
        **kwargs: for torch.load, which does not read safetensors.
    """
    if path.suffix == SAFETENSORS:
        safetensors = importlib.import_module("safetensors.torch")
        weights: dict[str, Any] = safetensors.load_file(path, device=str(map_location))
        with safetensors.safe_open(path, framework="pt") as file:
            return shared_tensors.with_views(weights, file.metadata() or {})
    loaded: dict[str, Any] = load_mapped(path, map_location, **kwargs)
    return loaded


def load_mapped(path: Path, map_location: Any, **kwargs: Any) -> Any:
    """Load without reading: tensors on the CPU are read when they are used, to be copied once.

    They must not be kept: who truncates the file, or removes it on a server, ends this process.
    """
    kwargs.setdefault("mmap", zipfile.is_zipfile(path))  # torch.save's old format cannot be
    return load(os.fspath(path), map_location, **kwargs)
