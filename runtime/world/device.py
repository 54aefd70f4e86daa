"""The kinds of devices, and the communication backend of each."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from runtime.config.enums import DistributedType
from runtime.errors import WorldError
from runtime.world.contract import LOCAL_WORLD_SIZE

# With one of these, each process of a pod may have been given devices of its own.
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of device.

    Attributes:
        name: the device type in torch.
        backend: the backend of torch.distributed; None if only one process can use the device.
        distributed_type: the kind of world that several processes on such devices form.
        is_available: returns whether this machine has such a device.
    """

    name: str
    backend: str | None
    distributed_type: DistributedType
    is_available: Callable[[], bool]


def _plugged_in(name: str) -> Callable[[], bool]:
    """Return a function that tells whether a vendor's module is in torch and finds a device."""

    def is_available() -> bool:
        return hasattr(torch, name) and bool(getattr(torch, name).is_available())

    return is_available


def _vendor(name: str, backend: str) -> Kind:
    kind = DistributedType[f"MULTI_{name.upper()}"]
    return Kind(name, f"cpu:gloo,{name}:{backend}", kind, _plugged_in(name))


CPU = Kind("cpu", "gloo", DistributedType.MULTI_CPU, lambda: True)
# The first available kind is used. Each accelerator's backend is combined with gloo, so that
# tensors on the CPU, such as the states of random generators, can be sent, too.
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
    """Return the kind of device that this process computes on.

    Args:
        cpu: whether to compute on the CPU even if there is an accelerator.
        distributed: whether there are several processes.
    """
    fit = (kind for kind in KINDS if kind.is_available() and (kind.backend or not distributed))
    return CPU if cpu else next(fit)


def named(name: str) -> torch.device:
    """Return the device with a name.

    Raises:
        ValueError: torch does not find the device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)  # torch.device() does not check that the device exists
    except (AssertionError, RuntimeError) as error:
        found = choose(cpu=False, distributed=False).name
        reason = str(error).partition("\n")[0]
        sentence = (
            f"the device must be one that torch finds here, such as {found}, got {name!r}: {reason}"
        )
        raise ValueError(sentence) from error
    return device


def place(kind: Kind, local_rank: int) -> torch.device:
    """Return the device of this process, and make it torch's current device.

    Args:
        kind: the kind of device.
        local_rank: the local rank; processes take the devices of the machine in turn.
    """
    if kind.name in ("cpu", "mps", "xla"):
        return torch.device(kind.name)
    index = local_rank % torch.get_device_module(kind.name).device_count()
    torch.get_device_module(kind.name).set_device(index)
    return torch.device(kind.name, index)


def check_own_gpu(
    backend: str | None,
    local_size: int,
    env: Mapping[str, str],
    count: Callable[[], int] = torch.cuda.device_count,
) -> None:
    """Check that each process of this pod can have a GPU of its own, as NCCL requires.

    Args:
        backend: the backend of torch.distributed.
        local_size: the number of processes in this pod.
        env: the environment variables.
        count: returns the number of GPUs that this process finds.

    Raises:
        WorldError: there are fewer GPUs than processes.
    """
    if "nccl" not in (backend or "") or any(name in env for name in _VISIBLE):
        return
    found = count()
    if local_size > found:
        sentence = (
            f"NCCL needs a GPU for each process of a pod, but {LOCAL_WORLD_SIZE} is {local_size} "
            f"and torch finds {found}: start {found} (spec.processesPerReplica, --nproc-per-node), "
            "give the pod more GPUs, or let the processes share them with "
            "ACCELERATE_DISTRIBUTED_BACKEND=gloo"
        )
        raise WorldError(sentence)
