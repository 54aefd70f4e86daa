"""Which device a process computes on and how it talks to the others: one table."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch

from runtime.config.enums import DistributedType


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of device."""

    name: str  # torch's device type
    backend: str | None  # of torch.distributed; None: one process only
    distributed_type: DistributedType
    is_available: Callable[[], bool]


def _plugged_in(name: str) -> Callable[[], bool]:
    """Whether a vendor's module has put itself into torch, and finds its device."""

    def is_available() -> bool:
        return hasattr(torch, name) and bool(getattr(torch, name).is_available())

    return is_available


def _vendor(name: str, backend: str) -> Kind:
    kind = DistributedType[f"MULTI_{name.upper()}"]
    return Kind(name, f"cpu:gloo,{name}:{backend}", kind, _plugged_in(name))


CPU = Kind("cpu", "gloo", DistributedType.MULTI_CPU, lambda: True)
# The first that is available is used. gloo stands beside an accelerator's backend so that
# tensors on the CPU (states of random generators) can be sent as well.
KINDS = (
    Kind("xla", "xla", DistributedType.XLA, lambda: bool(importlib.util.find_spec("torch_xla"))),
    _vendor("mlu", "cncl"),
    _vendor("sdaa", "tccl"),
    _vendor("musa", "mccl"),
    _vendor("npu", "hccl"),
    _vendor("hpu", "hccl"),
    Kind("cuda", "cpu:gloo,cuda:nccl", DistributedType.MULTI_GPU, torch.cuda.is_available),
    _vendor("xpu", "xccl"),
    _vendor("neuron", "neuron"),
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


def named(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # torch takes the names of devices that it does not find
    except (AssertionError, RuntimeError) as error:
        found = choose(cpu=False, distributed=False).name
        reason = str(error).partition("\n")[0]
        sentence = f"it must be a device that torch finds here, as {found}, got {name!r}: {reason}"
        raise ValueError(sentence) from error
    return device


def place(kind: Kind, local_rank: int) -> torch.device:
    """This process' own device of a kind; accelerators are dealt by local rank."""
    if kind.name in ("cpu", "mps", "xla"):
        return torch.device(kind.name)
    index = local_rank % torch.get_device_module(kind.name).device_count()
    torch.get_device_module(kind.name).set_device(index)
    return torch.device(kind.name, index)
