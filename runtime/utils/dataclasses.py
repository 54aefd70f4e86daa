"""Accelerate's `utils.dataclasses`: what it has, from the rooms where it lives."""

import importlib
from typing import TYPE_CHECKING, Any

from runtime import left_out
from runtime.compilation import TorchDynamoPlugin
from runtime.configuration import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
)
from runtime.enums import (
    BaseEnum,
    DDPCommunicationHookType,
    DistributedType,
    DynamoBackend,
    FP8BackendType,
    LoggerType,
    PrecisionType,
    RNGType,
)
from runtime.handlers import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProfileKwargs,
)
from runtime.nested import TensorInformation

if TYPE_CHECKING:
    from runtime.fsdp_plugin import FullyShardedDataParallelPlugin

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


def __getattr__(name: str) -> Any:
    """What torch takes long to import, when it is asked for; and names of what is left out."""
    if name == "FullyShardedDataParallelPlugin":
        return getattr(importlib.import_module("runtime.fsdp_plugin"), name)
    return left_out.stand_in(name)
