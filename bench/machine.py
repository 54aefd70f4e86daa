"""Where and how a run was made."""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self


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

    def is_like(self, other: "Run") -> bool:
        """Whether another run's results can stand beside this one's."""
        names = ("cores", "processor", "python", "torch", "accelerate")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def load() -> str:
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"
