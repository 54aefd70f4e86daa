"""Accelerate's `utils.dataclasses`: what it has, from the rooms where it lives."""

import importlib
from typing import TYPE_CHECKING, Any

from runtime.collectives.nested import TensorInformation
from runtime.config import left_out
from runtime.config.enums import (
    BaseEnum,
    DDPCommunicationHookType,
    DistributedType,
    DynamoBackend,
    FP8BackendType,
    LoggerType,
    PrecisionType,
    RNGType,
)
from runtime.config.handlers import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProfileKwargs,
)
from runtime.config.plugins import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
)
from runtime.parallel.compile import TorchDynamoPlugin

if TYPE_CHECKING:
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin

__all__ = [
    "AutocastKwargs",
    "BaseEnum",
    "DDPCommunicationHookType",
    "DataLoaderConfiguration",
    "DistributedDataParallelKwargs",
    "DistributedType",
    "DynamoBackend",
    "FP8BackendType",
    "FullyShardedDataParallelPlugin",
    "GradScalerKwargs",
    "GradientAccumulationPlugin",
    "InitProcessGroupKwargs",
    "KwargsHandler",
    "LoggerType",
    "PrecisionType",
    "ProfileKwargs",
    "ProjectConfiguration",
    "RNGType",
    "TensorInformation",
    "TorchDynamoPlugin",
]


_stand_in = left_out.stand_ins(__name__, __all__)


def __getattr__(name: str) -> Any:
    """What torch takes long to import, when it is asked for; and names of what is left out."""
    if name == "FullyShardedDataParallelPlugin":
        return getattr(importlib.import_module("runtime.parallel.fsdp.plugin"), name)
    return _stand_in(name)
