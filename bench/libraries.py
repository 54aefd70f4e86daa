"""Helpers for the programs of all themes: libraries, time, memory, and checksums."""

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
TORCH = "torch"  # the library that floors use


@dataclass(frozen=True, slots=True)
class Timed:
    """A program that consists of two functions.

    Attributes:
        answer: returns the result, see `Program.answer`.
        sample: returns one measurement.
    """

    answer: Callable[[], Any]
    sample: Callable[[], float]


class Numbers(Dataset[int]):
    """A dataset of the numbers 0 to n-1, which costs almost nothing to read."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


def module(library: str, name: str) -> Any:
    """Import a module of a library."""
    return importlib.import_module(f"{library}.{name}")


def accelerator(library: str, **options: Any) -> Any:
    """Make an Accelerator on the CPU; options of data loaders go into a DataLoaderConfiguration."""
    names = ("dispatch_batches", "use_seedable_sampler", "data_seed")
    loader = {name: options.pop(name) for name in names if name in options}
    config = module(library, "utils").DataLoaderConfiguration(**loader)
    made = importlib.import_module(library).Accelerator(
        cpu=True, dataloader_config=config, **options
    )
    torch.set_num_threads(1)
    return made


def joined() -> tuple[int, int]:
    """Initialize the process group of a floor, and return the rank and the world size."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def barrier() -> None:
    """Wait until all processes have arrived."""
    if distributed.is_initialized():
        distributed.barrier()


def timed(function: Callable[[], Any], times: int = 1) -> float:
    """Return the seconds per call, between a barrier before and a barrier after all calls."""
    barrier()
    began = time.perf_counter()
    for _ in range(times):
        function()
    barrier()
    return (time.perf_counter() - began) / times


def peak(function: Callable[[], Any]) -> float:
    """Return the peak memory of a call, in bytes, in addition to the memory before it."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    function()
    return _memory("VmHWM") - before


def _memory(name: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) * 1024


def sent() -> int:
    """Return the bytes sent over the loopback interface so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (fields,) = (line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
    return int(fields[8])


def digest(tensor: torch.Tensor) -> str:
    """Return a checksum of the bytes of a tensor."""
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]
