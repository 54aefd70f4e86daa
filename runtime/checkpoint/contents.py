"""Turns the states of a script's objects into the files of a checkpoint, and back.

Models, optimizers, schedulers and positions of data loaders are saved once and can be loaded by
any number of processes. Each process saves the states of its own random generators; see
`checkpoint.random_states` for loading them in a larger world.

`parts` decides which file has which state, and `load_accelerator_state` is its inverse. Sharded
models and their optimizers are left to `checkpoint.sharded`.
"""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.checkpoint import layout, manifest
from runtime.checkpoint.filenames import (
    CUSTOM_STATE_NAME,
    LOADER_STATE_NAME,
    MODEL_NAME,
    OPTIMIZER_NAME,
    RNG_STATE_NAME,
    SAFE_MODEL_NAME,
    SCALER_NAME,
    SCHEDULER_NAME,
    numbered,
)
from runtime.checkpoint.formats import (
    Part,
    can_be_safetensors,
    load,
    load_mapped,
    load_weights,
    save,
    writes,
)
from runtime.checkpoint.manifest import Contents
from runtime.checkpoint.matching import fitted
from runtime.checkpoint.optimizer_state import load_optimizer_state
from runtime.checkpoint.random_states import load_random_states
from runtime.data.random_states import random_states
from runtime.parallel.wrap import bare
from runtime.world.state import PartialState


def parts(
    model_states: Sequence[dict[str, Any]],
    optimizers: Sequence[Any],
    schedulers: Sequence[Any],
    dataloaders: Sequence[Any],
    scaler: torch.amp.GradScaler | None = None,
    custom_objects: Sequence[Any] = (),
    safe_serialization: bool = True,
) -> list[Part]:
    """Return the files of a checkpoint that do not depend on the rank.

    All processes must call this, because an object's `state_dict()` may call collectives.

    Args:
        model_states: the state dict of each model.
        optimizers: prepared optimizers.
        schedulers: prepared schedulers.
        dataloaders: prepared data loaders.
        scaler: the gradient scaler, with fp16.
        custom_objects: objects that the script has registered.
        safe_serialization: whether to save weights as safetensors, if that is installed.
    """
    found = [
        _weights(state, index, can_be_safetensors(safe_serialization, state))
        for index, state in enumerate(model_states)
    ]
    for name, objects in (
        (OPTIMIZER_NAME, optimizers),
        (SCHEDULER_NAME, schedulers),
        (LOADER_STATE_NAME, dataloaders),
    ):
        for index, one in enumerate(objects):
            found.append(Part(numbered(name, index, "bin"), one.state_dict()))
    if scaler is not None:
        found.append(Part(SCALER_NAME, scaler.state_dict()))
    for index, one in enumerate(custom_objects):
        found.append(Part(f"{CUSTOM_STATE_NAME}_{index}.pkl", one.state_dict()))
    return found


def _weights(state: dict[str, Any], index: int, is_safe: bool) -> Part:
    name, ending = (SAFE_MODEL_NAME, "safetensors") if is_safe else (MODEL_NAME, "bin")
    return Part(numbered(name, index, ending), state, is_safe)


def random_part(process_index: int, state: dict[str, Any]) -> Part:
    """Return the file for the random states of one process.

    Args:
        process_index: its data-parallel rank: processes that train on the same batches draw the
            same numbers.
        state: the result of `random_states` on that process.
    """
    return Part(f"{RNG_STATE_NAME}_{process_index}.pkl", state)


def save_accelerator_state(
    output_dir: str | os.PathLike[str],
    model_states: Sequence[dict[str, Any]],
    optimizers: Sequence[Any],
    schedulers: Sequence[Any],
    dataloaders: Sequence[Any],
    process_index: int,
    step: int,
    scaler: torch.amp.GradScaler | None = None,
    save_on_each_node: bool = False,
    safe_serialization: bool = True,
) -> Path:
    """Write all states into a directory, without a manifest. All processes must call this.

    Files and the manifest of an earlier checkpoint in the directory are removed, except the states
    of registered objects.

    Args:
        output_dir: the directory, which must exist.
        model_states: the state dict of each model.
        optimizers: prepared optimizers.
        schedulers: prepared schedulers.
        dataloaders: prepared data loaders.
        process_index: the rank of this process.
        step: the number of batches in the current accumulation.
        scaler: the gradient scaler, with fp16.
        save_on_each_node: whether the first process of each machine writes, instead of rank 0 only;
            needed if the machines do not share a file system.
        safe_serialization: whether to save weights as safetensors, if that is installed.

    Returns:
        The directory.
    """
    folder = Path(output_dir)
    given = (model_states, optimizers, schedulers, dataloaders, scaler)
    found = parts(*given, safe_serialization=safe_serialization)
    for part in found:
        save(part.state, folder / part.name, save_on_each_node, part.is_safe)
    random_part(process_index, random_states(step)).write(folder)
    if writes(save_on_each_node):
        _remove_others(folder, {part.name for part in found})
    return folder


def _remove_others(folder: Path, written: set[str]) -> None:
    """Remove the manifest and the files of an earlier checkpoint from a directory.

    Args:
        folder: the directory.
        written: the names of the new files, which stay.
    """
    names = layout.names(folder)
    old = layout.replaced(names, manifest.listed(folder) & names, written)
    manifest.forget(folder)
    own = {random_part(rank, {}).name for rank in range(PartialState().coordinate.size)}
    for name in old - own - layout.custom(names):
        (folder / name).unlink()


def load_accelerator_state(
    input_dir: str | os.PathLike[str],
    models: Sequence[nn.Module],
    optimizers: Sequence[Any],
    schedulers: Sequence[Any],
    dataloaders: Sequence[Any],
    process_index: int,
    scaler: torch.amp.GradScaler | None = None,
    map_location: Any = None,
    load_kwargs: dict[str, Any] | None = None,
    **load_model_func_kwargs: Any,
) -> dict[str, Any]:
    """Load all states from a directory.

    Args:
        input_dir: the directory.
        models: prepared models, as many as were saved.
        optimizers: prepared optimizers.
        schedulers: prepared schedulers.
        dataloaders: prepared data loaders. Those whose positions were not saved are unchanged.
        process_index: the rank of this process.
        scaler: the gradient scaler, with fp16.
        map_location: the device that weights and optimizer states are read to before they are
            copied: `cpu`, the default, or `on_device`.
        load_kwargs: arguments of torch.load.
        **load_model_func_kwargs: arguments of the models' load_state_dict.

    Returns:
        A dict with `step`, the number of batches in the accumulation, if it was saved.

    Raises:
        TypeError: `map_location` has another value.
        FileNotFoundError: the checkpoint lacks the state of an object.
    """
    if map_location not in (None, "cpu", "on_device"):
        sentence = (
            "Unsupported optimizer map location passed, please choose one of `None`, `'cpu'`, or "
            f"`'on_device'`, got {map_location!r}"
        )
        raise TypeError(sentence)
    place = PartialState().device if map_location == "on_device" else "cpu"
    saved, options = Contents.of(Path(input_dir)), load_kwargs or {}
    for index, model in enumerate(models):
        weights = load_weights(saved.path(_weights_name(saved, index)), place, **options)
        _load_model(model, fitted(weights, model), load_model_func_kwargs)
    for index, one in enumerate(optimizers):
        path = saved.path(numbered(OPTIMIZER_NAME, index, "bin"))
        load_optimizer_state(one, load_mapped(path, place, **options))
    for index, one in enumerate(schedulers):
        one.load_state_dict(load(saved.path(numbered(SCHEDULER_NAME, index, "bin")), **options))
    for index, loader in enumerate(dataloaders):
        name = numbered(LOADER_STATE_NAME, index, "bin")
        if saved.has(name):  # checkpoints of Accelerate have no such file
            loader.load_state_dict(load(saved.path(name), **options))
    if scaler is not None:
        scaler.load_state_dict(load(saved.path(SCALER_NAME)))
    return load_random_states(saved.folder, process_index)


def has_weights(saved: Contents, index: int) -> bool:
    """Whether a checkpoint has the weights of a model in one file."""
    return saved.has(_weights_name(saved, index))


def _weights_name(saved: Contents, index: int) -> str:
    safe = numbered(SAFE_MODEL_NAME, index, "safetensors")
    return safe if saved.has(safe) else numbered(MODEL_NAME, index, "bin")


def _load_model(model: nn.Module, weights: dict[str, Any], options: dict[str, Any]) -> None:
    if options.get("assign"):  # the model keeps the tensors, so they must not be mapped to a file
        weights = copy.deepcopy(weights)
    bare(model).load_state_dict(weights, **options)


def save_custom_state(
    obj: Any, path: str | os.PathLike[str], index: int = 0, save_on_each_node: bool = False
) -> None:
    """Write the state of an object that the script has registered.

    Args:
        obj: the object.
        path: the directory. If it has a manifest, that is removed.
        index: the position of the object in the order of registration.
        save_on_each_node: whether the first process of each machine writes, instead of rank 0 only.
    """
    name = f"{CUSTOM_STATE_NAME}_{index}.pkl"
    if writes(save_on_each_node):
        manifest.forget(Path(path))
    save(obj.state_dict(), Path(path, name), save_on_each_node)


def load_custom_states(
    objects: Sequence[Any], folder: Path, load_kwargs: dict[str, Any] | None
) -> None:
    """Load the states of all registered objects.

    Args:
        objects: the objects, in the order of registration.
        folder: the checkpoint.
        load_kwargs: arguments of torch.load; see `load_custom_state`.

    Raises:
        RuntimeError: the number of saved objects is not the number of registered objects.
    """
    saved = len(layout.custom(Contents.of(folder).names()))
    if saved != len(objects):
        sentence = (
            f"Number of custom checkpoints in folder {folder} does not match the number of "
            f"registered objects: found {saved}, registered {len(objects)}"
        )
        raise RuntimeError(sentence)
    for index, one in enumerate(objects):
        load_custom_state(one, folder, index, load_kwargs)


def load_custom_state(
    obj: Any,
    path: str | os.PathLike[str],
    index: int = 0,
    load_kwargs: dict[str, Any] | None = None,
) -> None:
    """Load the state of a registered object.

    Args:
        obj: the object.
        path: the checkpoint.
        index: the position of the object in the order of registration.
        load_kwargs: arguments of torch.load. Unlike Accelerate, this function creates objects of
            arbitrary classes only with `{"weights_only": False}`.
    """
    file = Path(path, f"{CUSTOM_STATE_NAME}_{index}.pkl")
    obj.load_state_dict(load(file, **({"map_location": "cpu"} | (load_kwargs or {}))))
