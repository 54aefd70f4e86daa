"""Checks which packages and devices are available: Accelerate's `is_<name>_available()`.

`<name>` is a device type of torch, the name of a package, or a key of `_PACKAGES`.
"""

import importlib.metadata
import importlib.util
import operator
import re
import shutil
import subprocess
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
_PACKAGES = {  # name -> the module to look for
    "bnb": "bitsandbytes",
    "comet_ml": "comet_ml",
    "deepspeed": "deepspeed",
    "fp8": "torchao",
    "torchdata_stateful_dataloader": "torchdata.stateful_dataloader",
    "torch_xla": "torch_xla",
    "transformer_engine": "transformer_engine",
}
_ALWAYS = {"weights_only": True}
_WITHOUT_P2P = "RTX 40"  # in the names of GPUs that older drivers let copy without an effect
_P2P_DRIVER = "550.40.07"  # the first driver that refuses such copies, so that NCCL makes detours
FP8_CAPABILITY = (8, 9)  # the CUDA compute capability of NVIDIA Ada


def is_bf16_available(ignore_tpu: bool = False) -> bool:  # noqa: ARG001  # accelerate's signature
    """Whether the device of this process supports bfloat16.

    Args:
        ignore_tpu: ignored.
    """
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else True


def is_fp16_available() -> bool:
    """Whether there is an accelerator that supports float16."""
    return is_present("cuda") or is_present("xpu") or is_present("mps")


def is_habana_gaudi1() -> bool:
    """Return False: this library does not detect Gaudi 1 devices."""
    return False


def check_cuda_fp8_capability() -> bool:
    """Whether the current CUDA device supports fp8."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= FP8_CAPABILITY


def check_cuda_p2p_ib_support() -> bool:
    """Whether GPUs can copy to each other and use InfiniBand: not consumer GPUs with old drivers.

    True without `nvidia-smi`, by which this asks, so that CUDA is not initialized.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return True
    asked = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603  # a fixed command
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    gpus = [line.rsplit(",", 1) for line in lines if "," in line]
    if len(gpus) < 2 or not any(_WITHOUT_P2P in name for name, _ in gpus):  # noqa: PLR2004  # a pair
        return True
    return TorchVersion(gpus[0][1].strip()) >= _P2P_DRIVER


def is_present(name: str) -> bool:
    """Whether a device is available or a package is installed; does not import the package."""
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
    """Return the function `is_<name>_available`."""
    found = re.fullmatch(r"is_(\w+)_available", name)
    if found is None:
        sentence = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(sentence)

    def is_available(*_details: Any, **_more: Any) -> bool:
        """Return whether it is available; arguments such as a version are ignored."""
        return is_present(found[1])

    return is_available


def compare_versions(library_or_version: Any, operation: str, requirement_version: str) -> bool:
    """Whether a version satisfies a requirement.

    Args:
        library_or_version: the name of an installed package, or a version.
        operation: the comparison: `>`, `>=`, `==`, `!=`, `<=` or `<`.
        requirement_version: the version to compare with.

    Raises:
        ValueError: the operation is unknown.
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
    """Whether the version of torch satisfies a requirement.

    Args:
        operation: the comparison: `>`, `>=`, `==`, `!=`, `<=` or `<`.
        version: the version to compare with.
    """
    return compare_versions("torch", operation, version)
