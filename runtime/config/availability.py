"""Which packages and devices there are: `is_<name>_available()`, as Accelerate asks.

A name is that of a device in torch, or that of a package, or one of those in `_PACKAGES`.
"""

import importlib.metadata
import importlib.util
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch.torch_version import TorchVersion

STR_OPERATION_TO_FUNC = {
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    "<": operator.lt,
}

_DEVICES = ("cuda", "xpu", "npu", "mlu", "musa", "sdaa", "hpu", "neuron")
_PACKAGES = {  # what they are called -> what is imported
    "bnb": "bitsandbytes",
    "comet_ml": "comet_ml",
    "deepspeed": "deepspeed",
    "torchdata_stateful_dataloader": "torchdata.stateful_dataloader",
    "torch_xla": "torch_xla",
    "transformer_engine": "transformer_engine",
}
_ALWAYS = {"fp8": False, "weights_only": True}
_FP8_CAPABILITY = (8, 9)  # of NVIDIA's devices, from Ada on


def is_bf16_available(ignore_tpu: bool = False) -> bool:  # noqa: ARG001  # accelerate's signature
    """Whether this process' device computes in bfloat16."""
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else True


def is_fp16_available() -> bool:
    """Whether there is an accelerator that computes in float16."""
    return is_present("cuda") or is_present("xpu") or is_present("mps")


def is_habana_gaudi1() -> bool:
    """False: that device's own software is not asked."""
    return False


def check_cuda_fp8_capability() -> bool:
    """Whether the first CUDA device computes in fp8."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= _FP8_CAPABILITY


def is_present(name: str) -> bool:
    """Whether a device or a package is there; nothing of it is imported."""
    if name in _ALWAYS:
        return _ALWAYS[name]
    if name == "mps":
        return torch.backends.mps.is_available()
    if name in _DEVICES:
        return hasattr(torch, name) and bool(getattr(torch, name).is_available())
    package = _PACKAGES.get(name, name)
    parent = package.partition(".")[0]
    if importlib.util.find_spec(parent) is None:
        return False
    return importlib.util.find_spec(package) is not None


def __getattr__(name: str) -> Callable[..., bool]:
    """`is_<name>_available`: a function that tells."""
    found = re.fullmatch(r"is_(\w+)_available", name)
    if found is None:
        sentence = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(sentence)

    def is_available(*_details: Any, **_more: Any) -> bool:
        """Details, such as a device's kind or a package's version, are not looked at."""
        return is_present(found[1])

    return is_available


def compare_versions(library_or_version: Any, operation: str, requirement_version: str) -> bool:
    """Whether a library's version, or a version, is as required.

    Args:
        library_or_version: its name, or the version itself.
        operation: of STR_OPERATION_TO_FUNC.
        requirement_version: to compare with.

    Raises:
        ValueError: an unknown operation.
    """
    if operation not in STR_OPERATION_TO_FUNC:
        known = list(STR_OPERATION_TO_FUNC)
        sentence = f"`operation` must be one of {known}, received {operation}"
        raise ValueError(sentence)
    version = library_or_version
    if isinstance(version, str):
        version = importlib.metadata.version(version)
    return bool(STR_OPERATION_TO_FUNC[operation](TorchVersion(str(version)), requirement_version))


def is_torch_version(operation: str, version: str) -> bool:
    """Whether torch's version is as required."""
    return compare_versions("torch", operation, version)
