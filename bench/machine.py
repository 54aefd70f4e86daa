"""Where and how a run was made."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class Run:
    """What the page says of a run besides its results."""

    command: str
    rounds: int
    cores: int
    processor: str
    memory: float  # GB
    python: str
    torch: str
    accelerate: str
    load_before: str  # the load average of one minute
    load_after: str = ""

    @classmethod
    def begun(cls, command: str, rounds: int) -> Self:
        """A run that begins here and now."""
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
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """All of it."""
        return asdict(self)

    @property
    def place(self) -> str:
        """The machine and the libraries: results of one place can be compared."""
        return (
            f"{self.cores} cores, {self.processor}; Python {self.python}, torch {self.torch}, "
            f"Accelerate {self.accelerate}"
        )


class Placed(Protocol):
    """A result that says where it was measured, if that is not the place of the page's run."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def elsewhere(self) -> str:
        """The place; empty if it is the page's."""


R = TypeVar("R", bound=Placed)


def moved(results: Iterable[R], before: str, here: str) -> list[R]:
    """Results of a run at one place, as a page of a run at another has them."""
    places = ((one, one.elsewhere or before) for one in results)
    return [replace(one, elsewhere="" if place == here else place) for one, place in places]


def facts_of(result: "DataclassInstance") -> dict[str, Any]:
    """What is stored of a result: all that is not empty."""
    return {name: value for name, value in asdict(result).items() if value != ""}


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"
