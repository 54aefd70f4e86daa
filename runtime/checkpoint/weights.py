"""Reads and writes a model's weights in the format of Hugging Face's `save_pretrained`."""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.checkpoint import filenames, layout, manifest, shared_tensors
from runtime.checkpoint.formats import load_weights
from runtime.checkpoint.matching import fitted
from runtime.checkpoint.sizes import by_size
from runtime.parallel.wrap import bare

_SINGLE = (filenames.WEIGHTS_NAME, filenames.SAFE_WEIGHTS_NAME)
_INDEX = ".index.json"


def load_checkpoint_in_model(
    model: nn.Module,
    checkpoint: str | os.PathLike[str],
    device_map: dict[str, Any] | None = None,
    offload_folder: Any = None,
    dtype: str | torch.dtype | None = None,
    offload_state_dict: bool = False,
    offload_buffers: bool = False,
    keep_in_fp32_modules: list[str] | None = None,
    offload_8bit_bnb: bool = False,
    strict: bool = False,
    full_state_dict: bool = True,  # noqa: ARG001  # accelerate's signature
    broadcast_from_rank0: bool = False,  # noqa: ARG001
) -> None:
    """Load weights into a model from a file, an index of several files, or a directory with either.

    Args:
        model: the model, prepared or not.
        checkpoint: the path of the file, the index or the directory.
        device_map: None, or `{"": device}` to move the model to a device first.
        offload_folder: not supported.
        dtype: the dtype, or its name, to convert floating-point weights to.
        offload_state_dict: not supported.
        offload_buffers: not supported.
        keep_in_fp32_modules: weights are not converted if their names contain one of these.
        offload_8bit_bnb: not supported.
        strict: whether missing and unexpected weights are an error.
        full_state_dict: ignored.
        broadcast_from_rank0: ignored; each process reads the files.

    Raises:
        ValueError: there are no weights, or several candidates.
        RuntimeError: names or shapes of weights do not fit the model.
        NotImplementedError: an argument asks for several devices or for offloading.
    """
    refused = (offload_folder, offload_state_dict, offload_buffers, offload_8bit_bnb)
    if any(refused) or set(device_map or {}) - {""}:
        sentence = "offloading and several devices are not supported: use an fsdp_plugin"
        raise NotImplementedError(sentence)
    place = (device_map or {}).get("")
    if place is not None:
        model.to(place)
    kept = tuple(keep_in_fp32_modules or ())
    wanted = getattr(torch, dtype.removeprefix("torch.")) if isinstance(dtype, str) else dtype
    weights: dict[str, torch.Tensor] = {}
    for file in weight_files(Path(checkpoint)):
        weights |= load_weights(file, "cpu")
    model, weights = bare(model), fitted(weights, model)
    converted = {name: _converted(name, one, wanted, kept) for name, one in weights.items()}
    has_values = not any(parameter.is_meta for parameter in model.parameters())
    found = model.load_state_dict(converted, strict=False, assign=not has_values)
    tied = {name for group in find_tied_parameters(model) for name in group}
    missing = sorted(set(found.missing_keys) - tied)
    if strict and (missing or found.unexpected_keys):
        sentence = (
            f"{checkpoint} does not fit {type(model).__name__}: missing keys {missing}, unexpected "
            f"keys {found.unexpected_keys}"
        )
        raise RuntimeError(sentence)


def _converted(name: str, tensor: Any, dtype: torch.dtype | None, kept: tuple[str, ...]) -> Any:
    is_kept = any(part in name for part in kept)
    is_tensor = isinstance(tensor, torch.Tensor)  # an extra state may be any object
    if dtype is None or is_kept or not is_tensor or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype)


def weight_files(checkpoint: Path) -> list[Path]:
    """Return the files with a model's weights.

    Args:
        checkpoint: a file, an index of several files, or a directory with either.

    Raises:
        ValueError: there are no weights, or several candidates.
    """
    if checkpoint.is_file():
        return _indexed(checkpoint) if checkpoint.suffix == ".json" else [checkpoint]
    if not checkpoint.is_dir():
        sentence = f"{checkpoint} must be a file of weights, an index of them, or a directory"
        raise ValueError(sentence)
    found = {one.name for one in checkpoint.iterdir() if one.is_file()}
    # Files of `save_state` are used only if `save_model` has written nothing to this directory.
    own = found - manifest.listed(checkpoint)
    names = own if any(name in _SINGLE or name.endswith(_INDEX) for name in own) else found
    if whole := [name for name in _SINGLE if name in names]:
        return [checkpoint / whole[0]]
    indices = sorted(name for name in names if name.endswith(_INDEX))
    if len(indices) == 1:
        return _indexed(checkpoint / indices[0])
    sentence = (
        f"{checkpoint} must contain {' or '.join(_SINGLE)}, or the index of several files "
        f"(*{_INDEX}), got {len(indices)} indices"
    )
    raise ValueError(sentence)


def _indexed(index: Path) -> list[Path]:
    """Return the files that an index names.

    Raises:
        ValueError: a name is a path to another directory.
    """
    content = json.loads(index.read_text())
    names = sorted(set(content.get("weight_map", content).values()))
    for name in names:
        if Path(name).name != name:
            sentence = f"{index} must name files in its own directory, got {name!r}"
            raise ValueError(sentence)
    return [index.with_name(name) for name in names]


def load_state_dict(checkpoint_file: str, device_map: dict[str, Any] | None = None) -> Any:
    """Return the weights of one file.

    Args:
        checkpoint_file: the path of a file of torch.save or safetensors.
        device_map: a dict whose values are all the same device; by default the CPU.

    Raises:
        NotImplementedError: `device_map` has several devices.
    """
    places = set((device_map or {"": "cpu"}).values())
    if len(places) > 1:
        sentence = "loading to several devices is not supported: pass one device for all weights"
        raise NotImplementedError(sentence)
    return load_weights(Path(checkpoint_file), places.pop())


def find_tied_parameters(model: nn.Module, **_kwargs: Any) -> list[list[str]]:
    """Return the names of parameters that are the same object, in sorted groups of two or more.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> model[1].weight = model[0].weight
    >>> find_tied_parameters(model)
    [['0.weight', '1.weight']]
    """
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [sorted(group) for group in names.values() if len(group) > 1]


def retie_parameters(model: nn.Module, tied_params: list[list[str]]) -> None:
    """Tie parameters again: all names of a group get its first parameter that is not on meta.

    Args:
        model: the model with these parameters.
        tied_params: groups of names, as `find_tied_parameters` returns them.
    """
    for group in tied_params:
        found = (model.get_parameter(name) for name in group)
        kept = next((parameter for parameter in found if not parameter.is_meta), None)
        for name in group if kept is not None else ():
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, kept)


def write_weights(
    write: Callable[..., None], weights: dict[str, Any], folder: Path, limit: int, is_safe: bool
) -> None:
    """Write weights to one file, or to several files and an index, as Hugging Face reads them.

    Args:
        write: writes a dict of tensors: `write(tensors, path, safe_serialization=...)`.
        weights: name -> tensor.
        folder: the directory to write to. Weights that an earlier save has left there are removed.
        limit: the largest size of a file, in bytes.
        is_safe: whether to write safetensors.
    """
    pattern = filenames.SAFE_WEIGHTS_PATTERN_NAME if is_safe else filenames.WEIGHTS_PATTERN_NAME
    kept, views = shared_tensors.divided(weights) if is_safe else (weights, {})
    shards = by_size(kept, limit)
    files = {
        pattern.format(suffix=f"-{i:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""): shard
        for i, shard in enumerate(shards, 1)
    }
    index = filenames.SAFE_WEIGHTS_INDEX_NAME if is_safe else filenames.WEIGHTS_INDEX_NAME
    for name, shard in files.items():
        _remove_link(folder / name)
        shared = {one: weights[one] for one, view in views.items() if view.of in shard}
        write(shard | shared, folder / name, safe_serialization=is_safe)
    if len(shards) > 1:
        _remove_link(folder / index)
        (folder / index).write_text(_index_of(files))
    written = {*files, *([index] if len(shards) > 1 else [])}
    manifest.amend(folder, written)
    remove_others(folder, written)


def _index_of(files: dict[str, dict[str, Any]]) -> str:
    size = sum(getattr(one, "nbytes", 0) for shard in files.values() for one in shard.values())
    content = {
        "metadata": {"total_size": size},
        "weight_map": {key: name for name, shard in files.items() for key in shard},
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _remove_link(path: Path) -> None:
    """Remove a symbolic link, so that a file is written in its place and not to its target."""
    if path.is_symlink():
        path.unlink()


def remove_others(folder: Path, written: Collection[str]) -> None:
    """Remove the weights of an earlier save from a directory, which a reader might prefer.

    Args:
        folder: the directory. Files of a `save_state` checkpoint there stay.
        written: the names of the new files, which stay.
    """
    for name in layout.weights(layout.names(folder)) - manifest.listed(folder) - set(written):
        (folder / name).unlink()
