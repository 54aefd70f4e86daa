"""Accelerate's `utils.fsdp_utils`: its functions, made of the rooms where the work is done."""

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from runtime.checkpoint import manifest, sharded
from runtime.checkpoint.merging import merge_fsdp_weights
from runtime.world.state import PartialState

__all__ = [
    "load_fsdp_model",
    "load_fsdp_optimizer",
    "merge_fsdp_weights",
    "save_fsdp_model",
    "save_fsdp_optimizer",
]


def save_fsdp_model(
    fsdp_plugin: Any,
    accelerator: Any,  # noqa: ARG001  # accelerate's
    model: nn.Module,
    output_dir: Any,
    model_index: int = 0,
    adapter_only: bool = False,
    use_dcp: bool = True,
) -> None:
    """Write a model as the plugin's state_dict_type says; to be called by all ranks."""
    _check(adapter_only, use_dcp)
    _forget(Path(output_dir))
    sharded.save_model(fsdp_plugin, model, Path(output_dir), model_index)


def load_fsdp_model(
    fsdp_plugin: Any,  # noqa: ARG001  # accelerate's: files say what they are
    accelerator: Any,  # noqa: ARG001
    model: nn.Module,
    input_dir: Any,
    model_index: int = 0,
    adapter_only: bool = False,
    use_dcp: bool = True,
) -> Any:
    """Put a model back; to be called by all ranks."""
    _check(adapter_only, use_dcp)
    return sharded.load_model(model, Path(input_dir), model_index)


def save_fsdp_optimizer(
    fsdp_plugin: Any,
    accelerator: Any,  # noqa: ARG001
    optimizer: Optimizer,
    model: nn.Module,
    output_dir: Any,
    optimizer_index: int = 0,
    use_dcp: bool = True,
) -> None:
    """Write an optimizer as the plugin's state_dict_type says; to be called by all ranks."""
    _check(False, use_dcp)
    folder = Path(output_dir)
    _forget(folder)
    sharded.save_optimizer(fsdp_plugin, optimizer, model, folder, optimizer_index)


def load_fsdp_optimizer(
    fsdp_plugin: Any,  # noqa: ARG001
    accelerator: Any,  # noqa: ARG001
    optimizer: Optimizer,
    model: nn.Module,
    input_dir: Any,
    optimizer_index: int = 0,
    adapter_only: bool = False,
    use_dcp: bool = True,
) -> None:
    """Put an optimizer back; to be called by all ranks."""
    _check(adapter_only, use_dcp)
    sharded.load_optimizer(optimizer, model, Path(input_dir), optimizer_index)


def _check(adapter_only: bool, use_dcp: bool) -> None:
    if adapter_only or not use_dcp:
        sentence = (
            "adapter_only=True and use_dcp=False are not supported by this runtime: a checkpoint "
            "is of whole models, and for any number of processes"
        )
        raise NotImplementedError(sentence)


def _forget(folder: Path) -> None:
    if PartialState().is_main_process:
        manifest.forget(folder)
