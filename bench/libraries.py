"""What programs of all themes need: either library, a clock, memory, and a short form of much."""

import hashlib
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.utils.data import Dataset

STATUS = Path("/proc/self/status")
TORCH = "torch"  # the library that a floor is written in


@dataclass(frozen=True, slots=True)
class Timed:
    """A program made of two functions."""

    answer: Callable[[], Any]
    sample: Callable[[], float]


class Numbers(Dataset[int]):
    """0 to n-1; costs nothing to read."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


def module(library: str, name: str) -> Any:
    """A library's module."""
    return importlib.import_module(f"{library}.{name}")


def accelerator(library: str, **options: Any) -> Any:
    """An Accelerator on the CPU; what belongs to data loaders goes where both libraries take it."""
    names = ("dispatch_batches", "use_seedable_sampler", "data_seed")
    loader = {name: options.pop(name) for name in names if name in options}
    config = module(library, "utils").DataLoaderConfiguration(**loader)
    made = importlib.import_module(library).Accelerator(
        cpu=True, dataloader_config=config, **options
    )
    torch.set_num_threads(1)
    return made


def joined() -> tuple[int, int]:
    """Join the world of a floor; rank and size."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def barrier() -> None:
    """Let all processes begin at once."""
    if distributed.is_initialized():
        distributed.barrier()


def timed(function: Callable[[], Any], times: int = 1) -> float:
    """Seconds for one call, from when all processes are there until all are done."""
    barrier()
    began = time.perf_counter()
    for _ in range(times):
        function()
    barrier()
    return (time.perf_counter() - began) / times


def peak(function: Callable[[], Any]) -> float:
    """Bytes of memory that a call takes at its height, above what was there before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def _memory(name: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) * 1024


def sent() -> int:
    """Bytes that have gone over the loopback interface so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (fields,) = (line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
    return int(fields[8])


def digest(tensor: torch.Tensor) -> str:
    """A tensor's bits in short."""
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]
