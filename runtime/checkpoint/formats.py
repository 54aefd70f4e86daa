"""Saves and loads objects with torch.save or safetensors; loading executes no code from a file."""

import importlib
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from runtime.checkpoint import checksums, manifest, shared_tensors
from runtime.checkpoint.checksums import HashedFile
from runtime.checkpoint.threads import Beside
from runtime.checkpoint.trust.load import load_untrusted
from runtime.config.availability import is_present
from runtime.world.state import PartialState
from runtime.world.warn import warn_once

logger = logging.getLogger(__name__)
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class Part:
    """One file of a checkpoint, with its content.

    Attributes:
        name: the name of the file in the checkpoint's directory.
        state: the object to write.
        is_safe: whether to write safetensors; the state must then be a dict of tensors.
    """

    name: str
    state: Any
    is_safe: bool = False

    def write(self, folder: Path, *, durable: bool = False) -> dict[str, Any]:
        """Write the file on this process, whatever its rank, and return its manifest entry.

        Args:
            folder: the directory of the file.
            durable: whether to flush the file to disk.
        """
        path = folder / self.name
        if not self.is_safe:
            with HashedFile(path) as file:
                torch.save(self.state, file)  # type: ignore[arg-type]  # all that it uses
                if durable:
                    os.fsync(file.fileno())
            return file.entry()
        tensors = _write_safetensors(self.state, path)
        entry = Beside(partial(_entry, path, tensors))
        try:
            if durable:
                manifest.flush(path)
        finally:
            found = entry.result()
        return found


def save(
    obj: Any,
    f: str | os.PathLike[str],
    save_on_each_node: bool = False,
    safe_serialization: bool = False,
) -> None:
    """Save an object on the main process; other processes do nothing.

    Args:
        obj: an object that torch.save accepts; for safetensors a dict of tensors.
        f: the path of the file.
        save_on_each_node: whether the first process of each machine saves instead.
        safe_serialization: whether to save as safetensors.
    """
    if writes(save_on_each_node):
        write(obj, f, safe_serialization)


def writes(save_on_each_node: bool = False) -> bool:
    """Whether this process saves.

    Args:
        save_on_each_node: whether the first process of each machine saves, instead of the main
            process only.
    """
    state = PartialState()
    return state.is_local_main_process if save_on_each_node else state.is_main_process


def write(obj: Any, f: str | os.PathLike[str], safe_serialization: bool = False) -> None:
    """Save an object on this process, whatever its rank.

    Args:
        obj: an object that torch.save accepts; for safetensors a dict of tensors.
        f: the path of the file.
        safe_serialization: whether to save as safetensors.
    """
    if safe_serialization:
        _write_safetensors(obj, f)
    else:
        torch.save(obj, f)


def _write_safetensors(state: Mapping[str, Any], f: str | os.PathLike[str]) -> dict[str, Any]:
    """Write a dict of tensors, and return the tensors that were written."""
    safetensors = importlib.import_module("safetensors.torch")
    tensors, metadata = _cleaned(state)
    safetensors.save_file(tensors, f, metadata={"format": "pt"} | metadata)
    return tensors


def _entry(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    if all(one.device.type == "cpu" for one in tensors.values()):
        return checksums.of_safetensors(path, tensors)
    return manifest.checked(path, durable=False)  # copying them again costs more than reading


def load(f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, **kwargs: Any) -> Any:
    """Load a file of torch.save without executing code from it.

    Tensors, numbers, strings, bytes, dates, numpy arrays, and containers of these can be loaded.

    Args:
        f: the file or its path.
        map_location: the device to load tensors to, as in torch.load.
        **kwargs: arguments of torch.load. `weights_only=False` loads any object, and can execute
            code from the file.

    Raises:
        UnpicklingError: the file contains another object, is damaged, or would need far more
            memory than its size.
    """
    kwargs.setdefault("weights_only", True)
    if not kwargs["weights_only"]:
        return torch.load(f, map_location=map_location, **kwargs)
    return load_untrusted(f, map_location, **kwargs)


def can_be_safetensors(wanted: bool, state: Mapping[str, Any]) -> bool:
    """Whether a model's weights are written as safetensors.

    The format stores only tensors, but the state dict of a model may have other values, from
    `get_extra_state`. Warns if weights are not written as wanted.

    Args:
        wanted: whether the script wants safetensors.
        state: the state dict of the model.
    """
    if not wanted:
        return False
    if not is_present("safetensors"):
        warn_once("safetensors is not installed: weights are saved with torch.save instead")
        return False
    others = sorted(name for name, one in state.items() if not isinstance(one, torch.Tensor))
    if others:
        warn_once(
            f"safetensors stores only tensors, and {', '.join(others)} of the model are not "
            "tensors: its weights are saved with torch.save instead"
        )
    return not others


def clean_state_dict_for_safetensors(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return a model's tensors as safetensors accepts them.

    Tensors are contiguous, and of several tensors that share memory only one is returned.

    Args:
        state_dict: the state dict of the model.

    Raises:
        TypeError: a value is not a tensor.
    """
    return _cleaned(state_dict)[0]


def _cleaned(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors to save, and metadata that describes the tensors that are left out."""
    kept, views = shared_tensors.divided(state)
    if views:
        logger.warning(
            "Removed shared tensors %s while saving: other tensors of the file have their values",
            sorted(views),
        )
    return shared_tensors.apart(kept), shared_tensors.to_metadata(views)


def load_weights(path: Path, map_location: Any, **kwargs: Any) -> dict[str, Any]:
    """Return a model's weights from a file of safetensors or of torch.save.

    Tensors of a torch.save file may be mapped to the file; see `load_mapped`.

    Args:
        path: the file.
        map_location: the device to load tensors to.
        **kwargs: arguments of torch.load; ignored for safetensors.
    """
    if path.suffix == SAFETENSORS:
        safetensors = importlib.import_module("safetensors.torch")
        weights: dict[str, Any] = safetensors.load_file(path, device=str(map_location))
        with safetensors.safe_open(path, framework="pt") as file:
            return shared_tensors.with_views(weights, file.metadata() or {})
    loaded: dict[str, Any] = load_mapped(path, map_location, **kwargs)
    return loaded


def load_mapped(path: Path, map_location: Any, **kwargs: Any) -> Any:
    """Load a file of torch.save, with CPU tensors mapped to the file.

    The values of such tensors are read from the file when they are used. Copy the tensors and do
    not keep them: if the file is truncated, or removed on a file server, using them ends the
    process (SIGBUS).

    Args:
        path: the file.
        map_location: the device to load tensors to.
        **kwargs: arguments of `load`.
    """
    kwargs.setdefault("mmap", zipfile.is_zipfile(path))  # torch cannot map its old format
    return load(os.fspath(path), map_location, **kwargs)
