"""The names of Accelerate's `utils.fsdp_utils`: sharded models and their checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from runtime.checkpoint import manifest, sharded
from runtime.checkpoint.merging import merge_fsdp_weights
from runtime.parallel.modules import get_parameters_from_modules
from runtime.world.state import PartialState

__all__ = [
    "fsdp2_prepare_auto_wrap_policy",
    "get_parameters_from_modules",
    "load_fsdp_model",
    "load_fsdp_optimizer",
    "merge_fsdp_weights",
    "save_fsdp_model",
    "save_fsdp_optimizer",
]


def fsdp2_prepare_auto_wrap_policy(
    fsdp2_plugin: Any, model: nn.Module
) -> Callable[[nn.Module], bool] | None:
    """Return the function that selects the modules of a model that are sharded as units, or None.

    Args:
        fsdp2_plugin: the plugin, which has the policy.
        model: the model.

    Raises:
        ValueError: the model has no module of a class that the plugin names.
    """
    policy = fsdp2_plugin.policy_of(model)
    if policy is None:
        return None

    def selects(module: nn.Module) -> bool:
        size = sum(parameter.numel() for parameter in module.parameters())
        return bool(policy(module=module, recurse=False, nonwrapped_numel=size))

    return selects


def save_fsdp_model(
    fsdp_plugin: Any,
    accelerator: Any,  # noqa: ARG001  # accelerate's signature
    model: nn.Module,
    output_dir: Any,
    model_index: int = 0,
    adapter_only: bool = False,
    use_dcp: bool = True,
) -> None:
    """Write a sharded model. All processes must call this.

    Args:
        fsdp_plugin: the plugin, whose `state_dict_type` determines the format.
        accelerator: ignored.
        model: the sharded model.
        output_dir: the directory.
        model_index: the index of the model, which is a part of the file name.
        adapter_only: must be False.
        use_dcp: must be True.

    Raises:
        NotImplementedError: `adapter_only` or `use_dcp` has another value.
    """
    _check(adapter_only, use_dcp)
    _forget(Path(output_dir))
    sharded.save_model(fsdp_plugin, model, Path(output_dir), model_index)


def load_fsdp_model(
    fsdp_plugin: Any,  # noqa: ARG001  # accelerate's signature
    accelerator: Any,  # noqa: ARG001
    model: nn.Module,
    input_dir: Any,
    model_index: int = 0,
    adapter_only: bool = False,
    use_dcp: bool = True,
) -> Any:
    """Load the weights of a sharded model. All processes must call this.

    Args:
        fsdp_plugin: ignored; the format is detected from the files.
        accelerator: ignored.
        model: the sharded model.
        input_dir: the directory.
        model_index: the index of the model, which is a part of the file name.
        adapter_only: must be False.
        use_dcp: must be True.

    Raises:
        NotImplementedError: `adapter_only` or `use_dcp` has another value.
    """
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
    """Write the optimizer of a sharded model. All processes must call this.

    Args:
        fsdp_plugin: the plugin, whose `state_dict_type` determines the format.
        accelerator: ignored.
        optimizer: the optimizer.
        model: the sharded model.
        output_dir: the directory.
        optimizer_index: the index of the optimizer, which is a part of the file name.
        use_dcp: must be True.

    Raises:
        NotImplementedError: `use_dcp` is False.
    """
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
    """Load the state of a sharded model's optimizer. All processes must call this.

    Args:
        fsdp_plugin: ignored; the format is detected from the files.
        accelerator: ignored.
        optimizer: the optimizer.
        model: the sharded model.
        input_dir: the directory.
        optimizer_index: the index of the optimizer, which is a part of the file name.
        adapter_only: must be False.
        use_dcp: must be True.

    Raises:
        NotImplementedError: `adapter_only` or `use_dcp` has another value.
    """
    _check(adapter_only, use_dcp)
    sharded.load_optimizer(optimizer, model, Path(input_dir), optimizer_index)


def _check(adapter_only: bool, use_dcp: bool) -> None:
    if adapter_only or not use_dcp:
        sentence = (
            "adapter_only=True and use_dcp=False are not supported by this runtime: a checkpoint "
            "has whole models, and can be loaded by any number of processes"
        )
        raise NotImplementedError(sentence)


def _forget(folder: Path) -> None:
    if PartialState().is_main_process:
        manifest.forget(folder)
