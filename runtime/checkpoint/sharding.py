"""Saves and loads sharded models, without importing FSDP where nothing is sharded."""

from pathlib import Path
from typing import Any

from torch import nn

from runtime.checkpoint.manifest import Contents
from runtime.checkpoint.names import FSDP_MODEL_NAME
from runtime.config.enums import DistributedType


def save_sharded(
    state: Any, folder: Path, models: list[nn.Module], optimizers: list[Any], *, is_shared: bool
) -> bool:
    """Write models and optimizers as the plugin says.

    Args:
        state: of this process.
        folder: a directory.
        models: prepared ones.
        optimizers: prepared ones.
        is_shared: whether all processes see the directory.

    Returns:
        Whether there is a plugin; else nothing was written. It also holds in a world of one, so
        that its checkpoints are those of any other.

    Raises:
        ValueError: the processes of different machines write into directories of their own.
    """
    if state.fsdp_plugin is None:
        return False
    if not is_shared:
        sentence = (
            "a sharded model's checkpoint needs one directory for all processes: leave "
            "save_on_each_node, or take a file system that they share"
        )
        raise ValueError(sentence)
    from runtime.checkpoint.sharded import save_all  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    save_all(state.fsdp_plugin, folder, models, optimizers)
    return True


def load_sharded(
    state: Any,
    folder: Path,
    models: list[nn.Module],
    optimizers: list[Any],
    *,
    trained: list[nn.Module],
) -> bool:
    """Put models and optimizers back, if they are sharded or their files are.

    Args:
        state: of this process.
        folder: the checkpoint.
        models: prepared ones, that are to be loaded.
        optimizers: prepared ones.
        trained: models that these have parameters of.

    Returns:
        Whether they are; else nothing was loaded.
    """
    is_written = any(one.startswith(FSDP_MODEL_NAME) for one in Contents.of(folder).names())
    if state.distributed_type != DistributedType.FSDP and not is_written:
        return False
    from runtime.checkpoint.sharded import load_all  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    load_all(folder, models, optimizers, trained=trained)
    return True


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """See `checkpoint.sharded.full_state_dict`."""
    from runtime.checkpoint import sharded  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    return sharded.full_state_dict(model)
