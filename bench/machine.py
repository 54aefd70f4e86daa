"""The machine, the libraries and the command of a run."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmark, without its results.

    Attributes:
        command: the command line.
        rounds: the maximum number of rounds.
        cores: the number of CPU cores that the run may use.
        processor: the model of the processor.
        memory: the memory of the machine, in GB.
        python: the version of Python.
        torch: the version of torch.
        accelerate: the version of Accelerate.
        gpu: the name of the GPU; empty if there is none.
        load_before: the load average of the minute before the run.
        load_after: the load average of the last minute of the run.
    """

    command: str
    rounds: int
    cores: int
    processor: str
    memory: float
    python: str
    torch: str
    accelerate: str
    load_before: str
    load_after: str = ""
    gpu: str = ""

    @classmethod
    def begun(cls, command: str, rounds: int) -> Self:
        """Return a run that starts now on this machine."""
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        return cls(
            command=command,
            rounds=rounds,
            cores=len(os.sched_getaffinity(0)),
            processor=model[1] if model else platform.machine(),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
            python=platform.python_version(),
            torch=version("torch"),
            accelerate=version("accelerate"),
            load_before=load(),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """All fields, as JSON."""
        return asdict(self)

    @property
    def place(self) -> str:
        """The machine and the libraries; only results with the same place are comparable."""
        cores = f"{self.cores} cores, {self.processor}{self.gpu and f', {self.gpu}'}"
        return f"{cores}; Python {self.python}, torch {self.torch}, Accelerate {self.accelerate}"


class Placed(Protocol):
    """A result that names its place, if the place differs from that of the page."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def elsewhere(self) -> str:
        """The place; empty for the place of the page."""


R = TypeVar("R", bound=Placed)


def moved(results: Iterable[R], before: str, here: str) -> list[R]:
    """Return the results of a run at the place `before` for a page of a run at the place `here`."""
    places = ((one, one.elsewhere or before) for one in results)
    return [replace(one, elsewhere="" if place == here else place) for one, place in places]


def facts_of(result: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a result that are stored: those that are not empty."""
    return {name: value for name, value in asdict(result).items() if value != ""}


def load() -> str:
    """Return the load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"
