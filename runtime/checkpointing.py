"""What a checkpoint has in it, file by file, and how it is put back.

Weights, optimizers, schedulers and loaders' positions are the same for any number of processes;
random generators are each process' own.
"""

import importlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.availability import is_present
from runtime.constants import (
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
from runtime.files import can_be_safetensors, load, load_weights, save
from runtime.model import extract_model_from_parallel
from runtime.state import PartialState
from runtime.warn import warn_once

_ACCELERATORS = ("cuda", "xpu", "npu", "mlu", "sdaa", "musa", "hpu", "neuron")
_PREFIX = "module."  # what DistributedDataParallel puts in front of each name


def bare(model: nn.Module) -> nn.Module:
    """The script's own model, whose names are the same for any number of processes."""
    return extract_model_from_parallel(model, keep_torch_compile=False)


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
    """Write all states into a directory; to be called by all processes.

    Args:
        output_dir: the directory, which is there.
        model_states: of each model.
        optimizers: prepared ones.
        schedulers: prepared ones.
        dataloaders: prepared ones.
        process_index: this rank.
        step: batches of the accumulation that is under way.
        scaler: of gradients, with fp16.
        save_on_each_node: where machines do not share a file system.
        safe_serialization: weights as safetensors, if the package is there.

    Returns:
        The directory.
    """
    folder = Path(output_dir)
    is_safe = can_be_safetensors(safe_serialization)
    weights, ending = (SAFE_MODEL_NAME, "safetensors") if is_safe else (MODEL_NAME, "bin")
    for index, state in enumerate(model_states):
        save(state, folder / numbered(weights, index, ending), save_on_each_node, is_safe)
    states = {
        OPTIMIZER_NAME: [one.state_dict() for one in optimizers],
        SCHEDULER_NAME: [one.state_dict() for one in schedulers],
        LOADER_STATE_NAME: [one.state_dict() for one in dataloaders],
    }
    for name, found in states.items():
        for index, state in enumerate(found):
            save(state, folder / numbered(name, index, "bin"), save_on_each_node)
    if scaler is not None:
        save(scaler.state_dict(), folder / SCALER_NAME, save_on_each_node)
    torch.save({"step": step} | random_states(), folder / f"{RNG_STATE_NAME}_{process_index}.pkl")
    return folder


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
    """Put all states of a directory back.

    Args:
        input_dir: the directory.
        models: prepared ones, as many as were saved.
        optimizers: prepared ones.
        schedulers: prepared ones.
        dataloaders: prepared ones; where the directory has no position, they begin anew.
        process_index: this rank.
        scaler: of gradients, with fp16.
        map_location: where tensors are loaded to: `cpu`, the default, or `on_device`.
        load_kwargs: for torch.load.
        **load_model_func_kwargs: for the models' load_state_dict.

    Returns:
        What else was saved: `step`.

    Raises:
        TypeError: another place.
        FileNotFoundError: a state was not saved.
    """
    if map_location not in (None, "cpu", "on_device"):
        sentence = (
            "Unsupported optimizer map location passed, please choose one of `None`, `'cpu'`, or "
            f"`'on_device'`, got {map_location!r}"
        )
        raise TypeError(sentence)
    place = PartialState().device if map_location == "on_device" else "cpu"
    folder, options = Path(input_dir), load_kwargs or {}
    for index, model in enumerate(models):
        _load_model(model, folder, index, place, load_model_func_kwargs)
    for name, objects, where in (
        (OPTIMIZER_NAME, optimizers, place),
        (SCHEDULER_NAME, schedulers, None),
    ):
        for index, one in enumerate(objects):
            one.load_state_dict(load(folder / numbered(name, index, "bin"), where, **options))
    for index, loader in enumerate(dataloaders):
        path = folder / numbered(LOADER_STATE_NAME, index, "bin")
        if path.exists():  # Accelerate saves none
            loader.load_state_dict(load(path, **options))
    if scaler is not None:
        scaler.load_state_dict(load(folder / SCALER_NAME))
    return _load_random_states(folder, process_index)


def _load_model(
    model: nn.Module, folder: Path, index: int, place: Any, options: dict[str, Any]
) -> None:
    safe = folder / numbered(SAFE_MODEL_NAME, index, "safetensors")
    path = safe if safe.exists() else folder / numbered(MODEL_NAME, index, "bin")
    weights = load_weights(path, place)
    if all(name.startswith(_PREFIX) for name in weights):  # as Accelerate saves them
        weights = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
    own = bare(model)
    own.load_state_dict(_with_shared(weights, own), **options)


def _with_shared(weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights with those that a model shares under several names, of which one was saved."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    shared = dict(weights)
    for group in names.values():
        saved = next((weights[name] for name in group if name in weights), None)
        if saved is not None:
            shared |= dict.fromkeys(group, saved)
    return shared


def random_states() -> dict[str, Any]:
    """The states of all random generators of this process."""
    states: dict[str, Any] = {
        "random_state": random.getstate(),
        "torch_manual_seed": torch.get_rng_state(),
    }
    if is_present("numpy"):
        kind, keys, *rest = importlib.import_module("numpy.random").get_state()
        states["numpy_random_seed"] = (kind, keys.tolist(), *rest)
    for name in _ACCELERATORS:
        if is_present(name):
            states[f"torch_{name}_manual_seed"] = getattr(torch, name).get_rng_state_all()
    return states


def _load_random_states(folder: Path, process_index: int) -> dict[str, Any]:
    """This process' generators; in a larger world the new ones have streams of their own."""
    path = folder / f"{RNG_STATE_NAME}_{process_index}.pkl"
    if not path.exists():
        first = load(folder / f"{RNG_STATE_NAME}_0.pkl")
        warn_once(
            f"{folder} was saved by fewer processes: rank {process_index} and those above draw "
            "random numbers of their own, from rank 0's seed and their rank"
        )
        torch.manual_seed(int(first["torch_manual_seed"][:8].sum()) + process_index)
        random.seed(torch.initial_seed())
        return {"step": first["step"]} if "step" in first else {}
    states = load(path)
    random.setstate(states["random_state"])
    torch.set_rng_state(states["torch_manual_seed"])
    if "numpy_random_seed" in states and is_present("numpy"):
        importlib.import_module("numpy.random").set_state(states["numpy_random_seed"])
    for name in _ACCELERATORS:
        if is_present(name) and f"torch_{name}_manual_seed" in states:
            getattr(torch, name).set_rng_state_all(states[f"torch_{name}_manual_seed"])
    return {"step": states["step"]} if "step" in states else {}


def save_custom_state(
    obj: Any, path: str | os.PathLike[str], index: int = 0, save_on_each_node: bool = False
) -> None:
    """Write the state of an object that a script has registered."""
    name = f"{CUSTOM_STATE_NAME}_{index}.pkl"
    save(obj.state_dict(), Path(path, name), save_on_each_node)


def load_custom_state(obj: Any, path: str | os.PathLike[str], index: int = 0) -> None:
    """Put the state of a registered object back.

    Any object may be in it, as the script has put it there: only a checkpoint that was written by
    this job is to be loaded.
    """
    file = Path(path, f"{CUSTOM_STATE_NAME}_{index}.pkl")
    obj.load_state_dict(load(file, map_location="cpu", weights_only=False))
