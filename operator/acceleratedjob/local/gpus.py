"""Finds the GPUs of this machine: how many there are, and what the drivers call them."""

import ctypes
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acceleratedjob.api.devices import AMD, NVIDIA

_KFD = Path("/sys/class/kfd/kfd/topology/nodes")  # of AMD's driver: the CPUs and the GPUs
_HAS_SHADERS = re.compile(r"^simd_count [1-9]", re.MULTILINE)


def nvidia_gpus(load: Callable[[str], Any] = ctypes.CDLL) -> int:
    """Return the number of GPUs that NVIDIA's driver finds; 0 without a driver that works.

    Args:
        load: loads the driver's library; raises an OSError if there is none.
    """
    try:
        nvml = load("libnvidia-ml.so.1")
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    number = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(number))
    nvml.nvmlShutdown()
    return number.value


def amd_gpus(nodes: Path = _KFD) -> int:
    """Return the number of GPUs that AMD's driver finds; 0 without it."""
    return sum(bool(_HAS_SHADERS.search(one.read_text())) for one in nodes.glob("*/properties"))


@dataclass(frozen=True, slots=True)
class Vendor:
    """A kind of GPUs.

    Attributes:
        resource: the name of the resource in the limits of a container.
        variable: the environment variable that names the GPUs that a process sees.
        nothing: its value for a process that sees none.
        count: returns how many there are.
    """

    resource: str
    variable: str
    nothing: str
    count: Callable[[], int]


VENDORS = (
    Vendor(NVIDIA, "CUDA_VISIBLE_DEVICES", "", nvidia_gpus),
    Vendor(AMD, "HIP_VISIBLE_DEVICES", "-1", amd_gpus),  # an empty value hides none
)


def visible(value: str | None, count: int) -> tuple[str, ...]:
    """Return the GPUs that a process sees: those before the first one that does not exist.

    >>> visible(None, 2), visible("1,0", 2), visible("1,2,0", 2), visible("", 2)
    (('0', '1'), ('1', '0'), ('1',), ())

    Args:
        value: the value of the variable: indices, or names such as `GPU-8f0c`; None if it is unset.
        count: how many GPUs there are.
    """
    if value is None:
        return tuple(map(str, range(count)))
    found: list[str] = []
    for one in map(str.strip, value.split(",")):
        if not one or one.startswith("-") or (one.isdecimal() and int(one) >= count):
            break
        found.append(one)
    return tuple(found[:count])


def found(env: Mapping[str, str] = os.environ) -> dict[str, tuple[str, ...]]:
    """Return what each vendor's variable calls the GPUs that this program sees, by resource."""
    return {one.resource: visible(env.get(one.variable), one.count()) for one in VENDORS}
