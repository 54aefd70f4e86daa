"""Accelerate's enums. A member's `str()` is its value, and `in` accepts members and values."""

import enum
from typing import Any


class _Contains(enum.EnumMeta):
    def __contains__(cls, item: object) -> bool:
        try:
            cls(item)
        except ValueError:
            return False
        return True


class BaseEnum(enum.Enum, metaclass=_Contains):
    """An enum whose members print as their values, and whose `in` accepts values.

    >>> "bf16" in PrecisionType, str(PrecisionType.BF16)
    (True, 'bf16')
    """

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def list(cls) -> list[str]:
        """Return the values of all members, as strings."""
        return [str(member) for member in cls]


class DistributedType(str, enum.Enum):  # noqa: UP042  # StrEnum's str() lacks the name of the class
    """The kind of world: one process, several on CPUs, several on GPUs, sharded models, ...

    DEEPSPEED and MEGATRON_LM are never used; they exist for scripts that compare with them.
    """

    NO = "NO"
    MULTI_CPU = "MULTI_CPU"
    MULTI_GPU = "MULTI_GPU"
    MULTI_NPU = "MULTI_NPU"
    MULTI_MLU = "MULTI_MLU"
    MULTI_SDAA = "MULTI_SDAA"
    MULTI_MUSA = "MULTI_MUSA"
    MULTI_XPU = "MULTI_XPU"
    MULTI_HPU = "MULTI_HPU"
    MULTI_NEURON = "MULTI_NEURON"
    FSDP = "FSDP"
    XLA = "XLA"
    DEEPSPEED = "DEEPSPEED"
    MEGATRON_LM = "MEGATRON_LM"


class CustomDtype(enum.Enum):
    """Dtypes that torch does not have, by which the memory of weights can be computed."""

    FP8 = "fp8"
    INT4 = "int4"
    INT2 = "int2"


class PrecisionType(str, BaseEnum):
    """The precision that a model computes in."""

    NO = "no"
    FP8 = "fp8"
    FP16 = "fp16"
    BF16 = "bf16"


class FP8BackendType(str, enum.Enum):  # noqa: UP042  # StrEnum's str() lacks the name of the class
    """The library that computes in fp8: NO or AO, torchao; the others exist for comparisons."""

    NO = "NO"
    AO = "AO"
    TE = "TE"
    MSAMP = "MSAMP"


class RNGType(BaseEnum):
    """A random generator that processes can synchronize.

    TORCH is torch's CPU generator, GENERATOR the one of a data loader's sampler; each other member
    is the generator of a device.
    """

    TORCH = "torch"
    CUDA = "cuda"
    MLU = "mlu"
    SDAA = "sdaa"
    MUSA = "musa"
    NPU = "npu"
    XLA = "xla"
    XPU = "xpu"
    HPU = "hpu"
    NEURON = "neuron"
    GENERATOR = "generator"


class LoggerType(BaseEnum):
    """The name of an experiment tracker; ALL stands for all installed trackers."""

    ALL = "all"
    AIM = "aim"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    TRACKIO = "trackio"
    COMETML = "comet_ml"
    MLFLOW = "mlflow"
    CLEARML = "clearml"
    DVCLIVE = "dvclive"
    SWANLAB = "swanlab"


class DDPCommunicationHookType(BaseEnum):
    """How DistributedDataParallel compresses gradients before it sends them."""

    NO = "no"
    FP16 = "fp16"
    BF16 = "bf16"
    POWER_SGD = "power_sgd"
    BATCHED_POWER_SGD = "batched_power_sgd"


class DynamoBackend(str, BaseEnum):
    """The backend of torch.compile; NO turns compilation off."""

    NO = "NO"
    EAGER = "EAGER"
    AOT_EAGER = "AOT_EAGER"
    INDUCTOR = "INDUCTOR"
    AOT_TS_NVFUSER = "AOT_TS_NVFUSER"
    NVPRIMS_NVFUSER = "NVPRIMS_NVFUSER"
    CUDAGRAPHS = "CUDAGRAPHS"
    OFI = "OFI"
    FX2TRT = "FX2TRT"
    ONNXRT = "ONNXRT"
    TENSORRT = "TENSORRT"
    AOT_TORCHXLA_TRACE_ONCE = "AOT_TORCHXLA_TRACE_ONCE"
    TORCHXLA_TRACE_ONCE = "TORCHXLA_TRACE_ONCE"
    TVM = "TVM"
    HPU_BACKEND = "HPU_BACKEND"
    NEURON = "NEURON"


def text(choice: Any) -> str:
    """Return the value of a choice that is given as a member or as its value.

    >>> text(RNGType.CUDA), text("cuda")
    ('cuda', 'cuda')
    """
    return str(getattr(choice, "value", choice))
