"""Saves and loads sharded models; imports torch's FSDP only if models are sharded."""

from pathlib import Path
from typing import Any

from torch import nn

from runtime.checkpoint.filenames import FSDP_MODEL_NAME
from runtime.checkpoint.manifest import Contents


def save_sharded(
    state: Any, folder: Path, models: list[nn.Module], optimizers: list[Any], *, is_shared: bool
) -> bool:
    """Write models of which each process has a part, and their optimizers.

    A world of one process writes the same files if it has an FSDP plugin, so that checkpoints do
    not depend on the world size.

    Args:
        state: the AcceleratorState of this process.
        folder: the directory of the checkpoint.
        models: prepared models.
        optimizers: prepared optimizers.
        is_shared: whether all processes write to the same directory.

    Returns:
        Whether models are written in parts; otherwise nothing is written.

    Raises:
        ValueError: each machine writes to its own directory.
    """
    if not state.saves_parts:
        return False
    if not is_shared:
        sentence = (
            "all processes must save a sharded model to the same directory: use "
            "save_on_each_node=False and a file system that all machines share"
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
    """Load models and optimizers, if they are sharded or were saved from sharded models.

    Args:
        state: the AcceleratorState of this process.
        folder: the checkpoint.
        models: the prepared models to load.
        optimizers: the prepared optimizers to load.
        trained: all models whose parameters the optimizers train, also those not to be loaded.

    Returns:
        Whether models and optimizers were loaded.
    """
    is_written = any(one.startswith(FSDP_MODEL_NAME) for one in Contents.of(folder).names())
    if not state.divides_models and not is_written:
        return False
    from runtime.checkpoint.sharded import load_all  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    load_all(folder, models, optimizers, trained=trained)
    return True


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """Return all weights of a sharded model; see `checkpoint.sharded.full_state_dict`."""
    from runtime.checkpoint import sharded  # noqa: PLC0415  # imports torch's FSDP, which takes a second

    return sharded.full_state_dict(model)
