"""Saves and loads checkpoints of sharded models, for any number of ranks.

With SHARDED_STATE_DICT each model and each optimizer is a directory of
torch.distributed.checkpoint, to which each rank writes its shards. With FULL_STATE_DICT it is one
file, which rank 0 writes. Names and contents are Accelerate's. All ranks must call each function.
Loading executes no code from a file; see `sharded_reader`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import distributed, nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
from torch.distributed.fsdp import StateDictType
from torch.optim import Optimizer

from runtime.checkpoint import layout, sharded_reader
from runtime.checkpoint.filenames import (
    FSDP_MODEL_NAME,
    MODEL_NAME,
    OPTIMIZER_NAME,
    SAFE_MODEL_NAME,
    numbered,
)
from runtime.checkpoint.formats import load, load_weights, save
from runtime.checkpoint.manifest import Contents
from runtime.checkpoint.matching import fitted, plain
from runtime.collectives.objects import broadcast_object_list, on_main
from runtime.world.state import PartialState

_ON_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SOME = StateDictOptions(strict=False)  # some parameters may have no state
MODEL, _OPTIMIZER = "model", "optimizer"  # the only key in a directory, as in Accelerate


def save_all(
    plugin: Any, folder: Path, models: Sequence[nn.Module], optimizers: Sequence[Optimizer]
) -> None:
    """Write models and optimizers in the form that a plugin asks for.

    Args:
        plugin: a FullyShardedDataParallelPlugin, whose `state_dict_type` is the form; None: in
            parts.
        folder: a directory on a file system that all ranks share.
        models: prepared models.
        optimizers: prepared optimizers of these models.
    """
    for index, model in enumerate(models):
        save_model(plugin, model, folder, index)
    for index, one in enumerate(optimizers):
        save_optimizer(plugin, one, _model_of(one, models), folder, index)


def load_all(
    folder: Path,
    models: Sequence[nn.Module],
    optimizers: Sequence[Optimizer],
    *,
    trained: Sequence[nn.Module],
) -> None:
    """Load models and optimizers, sharded or not, from sharded or whole files.

    Args:
        folder: the checkpoint.
        models: the prepared models to load.
        optimizers: the prepared optimizers to load.
        trained: all models whose parameters the optimizers train, also those not to be loaded.
    """
    for index, model in enumerate(models):
        load_model(model, folder, index)
    for index, one in enumerate(optimizers):
        load_optimizer(one, _model_of(one, trained), folder, index)


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """Return all weights of a sharded model, on the CPU of rank 0; an empty dict elsewhere."""
    return dict(get_model_state_dict(model, options=_ON_RANK_0))


def _model_of(optimizer: Optimizer, models: Sequence[nn.Module]) -> nn.Module:
    """Return the model that an optimizer trains; several models in a ModuleList."""
    own = {id(one) for group in optimizer.param_groups for one in group["params"]}
    trained = [one for one in models if any(id(each) in own for each in one.parameters())]
    return trained[0] if len(trained) == 1 else nn.ModuleList(trained)


def _inner(optimizer: Optimizer) -> Optimizer:
    """Return the script's optimizer, which torch steps once to create its state.

    The prepared optimizer would skip this step in the middle of an accumulation.
    """
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _write(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sharded_reader.said_alone():
        dcp_save(state, storage_writer=FileSystemWriter(folder))


def _is_whole(plugin: Any) -> bool:
    return plugin is not None and bool(plugin.state_dict_type == StateDictType.FULL_STATE_DICT)


def save_model(plugin: Any, model: nn.Module, folder: Path, index: int) -> None:
    """Write a model.

    Args:
        plugin: a FullyShardedDataParallelPlugin, whose `state_dict_type` is the form; None: in
            parts.
        model: the prepared model.
        folder: the directory of the checkpoint.
        index: the position of the model among the prepared ones.
    """
    if _is_whole(plugin):
        save(full_state_dict(model), folder / numbered(FSDP_MODEL_NAME, index, "bin"))
        _remove_parts(folder, f"{FSDP_MODEL_NAME}_{index}")
    else:
        _write(folder / f"{FSDP_MODEL_NAME}_{index}", {MODEL: get_model_state_dict(model)})


def save_optimizer(
    plugin: Any, optimizer: Optimizer, model: nn.Module, folder: Path, index: int
) -> None:
    """Write the optimizer of a model.

    Args:
        plugin: a FullyShardedDataParallelPlugin, whose `state_dict_type` is the form; None: in
            parts.
        optimizer: the prepared optimizer.
        model: the model that it trains.
        folder: the directory of the checkpoint.
        index: the position of the optimizer among the prepared ones.
    """
    whole = _is_whole(plugin)
    options = _ON_RANK_0 if whole else None
    state = get_optimizer_state_dict(model, _inner(optimizer), options=options)
    if whole:
        save(state, folder / numbered(OPTIMIZER_NAME, index, "bin"))
        _remove_parts(folder, f"{OPTIMIZER_NAME}_{index}")
    else:
        _write(folder / f"{OPTIMIZER_NAME}_{index}", {_OPTIMIZER: state})


def _remove_parts(folder: Path, name: str) -> None:
    """Remove the directory of an earlier save, which loading would prefer to the new file."""
    if not _is_first() or not (folder / name).is_dir():
        return
    for one in layout.states(layout.names(folder)):
        if one.startswith(f"{name}/"):
            (folder / one).unlink()
    if not any((folder / name).iterdir()):
        (folder / name).rmdir()


def load_model(model: nn.Module, folder: Path, index: int) -> Any:
    """Load a model.

    Args:
        model: the prepared model.
        folder: the checkpoint.
        index: the position of the model among the prepared ones.

    Returns:
        The missing and the unexpected keys, as `Module.load_state_dict` returns them.

    Raises:
        FileNotFoundError: the checkpoint has no such model.
    """
    saved, parts = Contents.of(folder), f"{FSDP_MODEL_NAME}_{index}"
    if saved.has(parts):
        state: dict[str, Any] = {MODEL: get_model_state_dict(model)}
        sharded_reader.read(saved.path(parts), state)
        return set_model_state_dict(model, state[MODEL])
    names = (
        numbered(FSDP_MODEL_NAME, index, "bin"),
        numbered(SAFE_MODEL_NAME, index, "safetensors"),
        numbered(MODEL_NAME, index, "bin"),
    )
    path = saved.path(next((name for name in names if saved.has(name)), names[0]))
    found = on_main(lambda: fitted(load_weights(path, "cpu"), model)) or {}
    weights = {plain(name): one for name, one in found.items()}  # the names that torch uses
    return set_model_state_dict(model, weights, options=_from_rank_0())


def load_optimizer(optimizer: Optimizer, model: nn.Module, folder: Path, index: int) -> None:
    """Load the optimizer of a model.

    Args:
        optimizer: the prepared optimizer.
        model: the model that it trains.
        folder: the checkpoint.
        index: the position of the optimizer among the prepared ones.

    Raises:
        FileNotFoundError: the checkpoint has no such optimizer.
    """
    inner, saved, parts = _inner(optimizer), Contents.of(folder), f"{OPTIMIZER_NAME}_{index}"
    own: dict[str, Any] = dict(get_optimizer_state_dict(model, inner))
    if saved.has(parts):
        kept = _read_optimizer(inner, model, saved.path(parts), own)
    else:
        path = saved.path(numbered(OPTIMIZER_NAME, index, "bin"))
        kept = _read_whole(inner, model, path, own)
    for group, known in zip(inner.param_groups, own["param_groups"], strict=True):
        for parameter, name in zip(group["params"], known["params"], strict=True):
            # The saved parameter had no gradient yet; torch has created a state for it here.
            if name not in kept:
                inner.state.pop(parameter, None)


def _read_optimizer(inner: Optimizer, model: nn.Module, parts: Path, own: Any) -> set[str]:
    """Load an optimizer from a directory; return the names of the parameters with a state.

    Args:
        inner: the script's optimizer.
        model: the model that it trains.
        parts: the directory.
        own: the state dict of the optimizer, by parameter name.
    """
    saved = sharded_reader.names(parts)
    kept = {
        name
        for name, state in own["state"].items()
        if any(f"{_OPTIMIZER}.state.{name}.{key}" in saved for key in state)
    }
    # If no name matches, all are requested, so that the error names the missing ones.
    wanted = {name: own["state"][name] for name in kept or own["state"]}
    state: dict[str, Any] = {_OPTIMIZER: {"state": wanted, "param_groups": own["param_groups"]}}
    sharded_reader.read(parts, state)
    set_optimizer_state_dict(model, inner, state[_OPTIMIZER], options=_SOME)
    return set(wanted)


def _read_whole(inner: Optimizer, model: nn.Module, path: Path, own: Any) -> set[str]:
    """Load an optimizer from a file on rank 0; return the names of the parameters with a state.

    Args:
        inner: the script's optimizer.
        model: the model that it trains.
        path: the file.
        own: the state dict of the optimizer, by parameter name.
    """
    saved = on_main(lambda: _by_name(load(path, "cpu"), own["param_groups"])) or {}
    facts = [list(saved.get("state", ())), saved.get("param_groups")]
    kept, groups = broadcast_object_list(facts)
    if kept:
        set_optimizer_state_dict(model, inner, saved, options=_from_rank_0(strict=False))
    else:  # torch fails to broadcast an empty state
        empty: dict[str, Any] = {"state": {}, "param_groups": groups}
        set_optimizer_state_dict(model, inner, empty, options=_SOME)
    return set(kept)


def _by_name(saved: dict[str, Any], groups: Any) -> dict[str, Any]:
    """Return an optimizer's state by parameter name, as FSDP needs it, instead of by position.

    Args:
        saved: the state dict, with parameters by position or by name.
        groups: the parameter groups of the optimizer to load, with names.
    """
    names: dict[Any, str] = {}
    for group, own in zip(saved["param_groups"], groups, strict=True):
        names |= dict(zip(group["params"], own["params"], strict=True))
    return {
        "state": {names[one]: state for one, state in saved["state"].items()},
        "param_groups": [
            group | {"params": [names[one] for one in group["params"]]}
            for group in saved["param_groups"]
        ],
    }


def _is_first() -> bool:
    return PartialState().is_main_process


def _from_rank_0(*, strict: bool = True) -> StateDictOptions:
    several = distributed.is_initialized()
    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=several, strict=strict)
