"""A model's weights, outside of checkpoints: in memory, and in files that other libraries read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from runtime.checkpoint.formats import can_be_safetensors, writes
from runtime.checkpoint.sharding import full_state_dict
from runtime.checkpoint.sizes import convert_file_size_to_int
from runtime.checkpoint.weights import write_weights
from runtime.parallel.wrap import bare


def state_dict_of(model: nn.Module, *, is_sharded: bool, unwrap: bool) -> dict[str, Any]:
    """Return a model's weights; see `Accelerator.get_state_dict`."""
    if is_sharded:
        return full_state_dict(model)
    return dict((bare(model) if unwrap else model).state_dict())


def must_have_weights(model: nn.Module) -> None:
    """Check that all parameters of a model have values.

    Raises:
        RuntimeError: some parameters are on the meta device.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        sentence = "You can't save the model since some parameters are on the meta device."
        raise RuntimeError(sentence)


def save_weights(
    weights: dict[str, Any],
    save_directory: str | os.PathLike[str],
    *,
    write: Callable[..., None],
    max_shard_size: int | str,
    safe_serialization: bool,
    save_on_each_node: bool,
) -> None:
    """Write a model's weights on the processes that write; see `Accelerator.save_model`."""
    if not writes(save_on_each_node) or not weights:
        return
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    is_safe = can_be_safetensors(safe_serialization, weights)
    write_weights(write, weights, folder, convert_file_size_to_int(max_shard_size), is_safe)
