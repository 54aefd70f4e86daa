"""The names of Accelerate's `utils.dataclasses`: enums, handlers and plugins."""

from typing import TYPE_CHECKING, Any

from runtime.collectives.nested import TensorInformation
from runtime.config import left_out
from runtime.config.enums import (
    BaseEnum,
    CustomDtype,
    DDPCommunicationHookType,
    DistributedType,
    DynamoBackend,
    FP8BackendType,
    LoggerType,
    PrecisionType,
    RNGType,
)
from runtime.config.handlers import (
    AORecipeKwargs,
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
from runtime.parallel.handlers import TorchContextParallelConfig, TorchTensorParallelConfig
from runtime.parallel.modules import get_module_class_from_name

if TYPE_CHECKING:
    from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin

__all__ = [
    "AORecipeKwargs",
    "AutocastKwargs",
    "BaseEnum",
    "CustomDtype",
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
    "TorchContextParallelConfig",
    "TorchDynamoPlugin",
    "TorchTensorParallelConfig",
    "get_module_class_from_name",
]


_stand_in = left_out.stand_ins(__name__, __all__)


def __getattr__(name: str) -> Any:
    """Return FullyShardedDataParallelPlugin, whose import takes long in torch, or a stand-in."""
    if name == "FullyShardedDataParallelPlugin":
        from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin  # noqa: PLC0415  # imports torch's FSDP, which takes a second

        return FullyShardedDataParallelPlugin
    return _stand_in(name)
