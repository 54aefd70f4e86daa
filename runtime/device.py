"""Which device a process computes on and how it talks to the others: one table."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch


class DistributedType(StrEnum):
    """What kind of world this is, in Accelerate's words."""

    NO = "NO"
    MULTI_CPU = "MULTI_CPU"
    MULTI_GPU = "MULTI_GPU"
    MULTI_XPU = "MULTI_XPU"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of device."""

    name: str  # torch's device type
    backend: str | None  # of torch.distributed; None: one process only
    distributed_type: DistributedType
    is_available: Callable[[], bool]


CPU = Kind("cpu", "gloo", DistributedType.MULTI_CPU, lambda: True)
# The first that is available is used. gloo stands beside an accelerator's backend so that
# tensors on the CPU (states of random generators) can be sent as well.
KINDS = (
    Kind("cuda", "cpu:gloo,cuda:nccl", DistributedType.MULTI_GPU, torch.cuda.is_available),
    Kind("xpu", "cpu:gloo,xpu:xccl", DistributedType.MULTI_XPU, torch.xpu.is_available),
    Kind("mps", None, DistributedType.NO, torch.backends.mps.is_available),
    CPU,
)


def choose(*, cpu: bool, distributed: bool) -> Kind:
    """The kind of device for this process.

    Args:
        cpu: use the CPU whatever else there is.
        distributed: whether there are other processes to talk to.
    """
    fit = (kind for kind in KINDS if kind.is_available() and (kind.backend or not distributed))
    return CPU if cpu else next(fit)


def place(kind: Kind, local_rank: int) -> torch.device:
    """This process' own device of a kind; accelerators are dealt by local rank."""
    if kind.name in ("cpu", "mps"):
        return torch.device(kind.name)
    index = local_rank % torch.get_device_module(kind.name).device_count()
    torch.get_device_module(kind.name).set_device(index)
    return torch.device(kind.name, index)
