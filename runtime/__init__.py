"""The in-pod library of AcceleratedJob: makes a training script distributed.

A script that uses Hugging Face Accelerate needs `runtime` instead of `accelerate` in its imports,
or `as_accelerate()` before them.
Importing this package does not import torch; the first use of a name that needs it does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from runtime.alias.path import as_accelerate
from runtime.config import left_out
from runtime.errors import WorldError, no_attribute
from runtime.world.contract import Job, World

if TYPE_CHECKING:
    from runtime.accelerator import Accelerator
    from runtime.big_modeling import init_empty_weights, init_on_device
    from runtime.checkpoint.weights import load_checkpoint_in_model
    from runtime.config.enums import DDPCommunicationHookType, DistributedType
    from runtime.config.handlers import (
        AutocastKwargs,
        DistributedDataParallelKwargs,
        GradScalerKwargs,
        InitProcessGroupKwargs,
        ProfileKwargs,
    )
    from runtime.config.plugins import DataLoaderConfiguration
    from runtime.data.prepare import prepare_data_loader, skip_first_batches
    from runtime.data.rng import synchronize_rng_states
    from runtime.launchers import debug_launcher, notebook_launcher
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin
    from runtime.parallel.mesh import ParallelismConfig
    from runtime.utils.memory import find_executable_batch_size
    from runtime.world.gradient_state import GradientState
    from runtime.world.state import AcceleratorState, PartialState

__version__ = "0.1.0"

_HOMES = {  # name -> its module, which imports torch
    "Accelerator": "accelerator",
    "AcceleratorState": "world.state",
    "AutocastKwargs": "config.handlers",
    "DDPCommunicationHookType": "config.enums",
    "DataLoaderConfiguration": "config.plugins",
    "DistributedDataParallelKwargs": "config.handlers",
    "DistributedType": "config.enums",
    "FullyShardedDataParallelPlugin": "parallel.fsdp.plugin",
    "GradScalerKwargs": "config.handlers",
    "GradientState": "world.gradient_state",
    "InitProcessGroupKwargs": "config.handlers",
    "ParallelismConfig": "parallel.mesh",
    "PartialState": "world.state",
    "ProfileKwargs": "config.handlers",
    "debug_launcher": "launchers",
    "find_executable_batch_size": "utils.memory",
    "init_empty_weights": "big_modeling",
    "init_on_device": "big_modeling",
    "load_checkpoint_in_model": "checkpoint.weights",
    "notebook_launcher": "launchers",
    "prepare_data_loader": "data.prepare",
    "skip_first_batches": "data.prepare",
    "synchronize_rng_states": "data.rng",
}

_ROOMS = (  # modules that are attributes after `import runtime`, as in Accelerate
    *("accelerator", "big_modeling", "checkpointing", "data_loader", "hooks", "launchers"),
    *("local_sgd", "logging", "optimizer", "parallelism_config", "scheduler", "state", "tracking"),
    "utils",
)

__all__ = [
    "Accelerator",
    "AcceleratorState",
    "AutocastKwargs",
    "DDPCommunicationHookType",
    "DataLoaderConfiguration",
    "DistributedDataParallelKwargs",
    "DistributedType",
    "FullyShardedDataParallelPlugin",
    "GradScalerKwargs",
    "GradientState",
    "InitProcessGroupKwargs",
    "Job",
    "ParallelismConfig",
    "PartialState",
    "ProfileKwargs",
    "World",
    "WorldError",
    "as_accelerate",
    "debug_launcher",
    "find_executable_batch_size",
    "init_empty_weights",
    "init_on_device",
    "load_checkpoint_in_model",
    "notebook_launcher",
    "prepare_data_loader",
    "skip_first_batches",
    "synchronize_rng_states",
]


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used (PEP 562)."""
    if name in left_out.NAMES:
        value: Any = left_out.stand_in(name)
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise no_attribute(__name__, name, [*__all__, *_ROOMS])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
