"""What a system is to the benchmark: commands that the outer loop starts, and starts again."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.goodput.peers import Peer
from bench.goodput.processes import RANK
from bench.goodput.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that runs until the training is done, or next to it.

    Attributes:
        name: its name in the run.
        argv: the command.
        env: more environment variables.
        port: the port that it must listen at before the next command starts; None for any.
        message: the file in which it says that the training hangs, as an operator would read it;
            None if nobody reads one.
        fresh: folders that are removed before each start, because another pod would not have them.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    message: Path | None = None
    fresh: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The commands of a training.

    Attributes:
        services: commands that run as long as the training, and are not started again.
        units: commands that the outer loop starts again until each has ended well.
        leftovers: files that are removed afterwards; patterns below `/dev/shm`.
    """

    services: Sequence[Command] = ()
    units: Sequence[Command]
    leftovers: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a training runs.

    Attributes:
        run: the name of the run, which no other one has.
        folder: an empty folder for checkpoints and logs.
        workload: what is trained.
        ports: free ports.
        python: the Python with the packages of the system.
    """

    run: str
    folder: Path
    workload: Workload
    ports: Sequence[int]
    python: str = sys.executable

    @property
    def scripts(self) -> str:
        """The folder of the commands of that Python."""
        return str(Path(self.python).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system that keeps a training going.

    Attributes:
        name: its name, with its setting.
        group: the name without the setting; the page shows the best setting of a group.
        setting: the setting, for the page.
        make: returns the commands.
        every: the steps between two checkpoints, where the script decides that.
        peer: the packages that it needs; None for those of this project.
        variable: the environment variable with the rank of a process.
    """

    name: str
    group: str
    setting: str = ""
    make: Callable[[Spot], Setup]
    every: int = 0
    peer: Peer | None = None
    variable: str = RANK
