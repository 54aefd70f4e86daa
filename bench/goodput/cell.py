"""Runs one training with faults, and returns its figures."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from acceleratedjob.local.process import free_port
from bench.goodput import ledger, processes
from bench.goodput.injector import Injector
from bench.goodput.ledger import Entry, Kind, Reader
from bench.goodput.metrics import Figures
from bench.goodput.outages import Exit, Story
from bench.goodput.outer import Outer, environment
from bench.goodput.schedule import Strike, schedule
from bench.goodput.systems.system import Spot, System
from bench.goodput.workloads import WORKLOADS, Task, Workload
from bench.machine import load

TICK = 0.02  # seconds between two looks at the ledger
PORTS = 4  # that a system gets
LONGEST = 5  # times the work without faults, until a training is given up
STARTING = 120.0  # more seconds, for the first start


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training of the benchmark.

    Attributes:
        system: the name of the system.
        workload: the name of the workload.
        seconds: the duration of the work without faults, about.
        mtbf: the mean time between two faults, in seconds; None without faults.
        seed: the seed of the schedule.
    """

    system: str
    workload: str
    seconds: float
    mtbf: float | None
    seed: int

    @property
    def steps(self) -> int:
        """The number of its steps without faults."""
        return WORKLOADS[self.workload].lasting(self.seconds).work.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one training has shown.

    Attributes:
        cell: the training.
        figures: its figures; None if it never made a step.
        is_done: whether it came to its end.
        faults: the faults that were injected.
        restarts: how often the outer loop started a command again.
        start: the seconds until the first step; None if there was none.
        load_before: the load average of the minute before.
        load_after: the load average of the last minute of the training.
        log: the end of the logs, if it did not come to its end.
    """

    cell: Cell
    figures: Figures | None
    is_done: bool
    faults: int
    restarts: int
    start: float | None
    load_before: str
    load_after: str
    log: str = ""

    @property
    def job_seconds(self) -> float | None:
        """The seconds from the first start until the last step; None if there was no step."""
        if self.figures is None or self.start is None:
            return None
        return self.start + self.figures.seconds

    @property
    def facts(self) -> Mapping[str, Any]:
        """All fields, as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Return the result of its facts."""
        figures = facts["figures"]
        made = {"cell": Cell(**facts["cell"]), "figures": figures and Figures(**figures)}
        return cls(**{**facts, **made})


class Watch:
    """Follows a training: reads its ledger, notes the ends of its processes, injects faults."""

    def __init__(self, run: str, path: Path, system: System, strikes: Sequence[Strike]) -> None:
        """Args: run: the name of the run; path: its ledger; strikes: the faults."""
        self._reader, self._ends = Reader(path), processes.Ends()
        self._told: dict[int, int] = {}  # process ID -> rank, the latest at the end
        self.entries: list[Entry] = []
        self.exits: list[Exit] = []
        self.injector = Injector(
            strikes,
            lambda rank: processes.of_rank(run, rank, self._told, variable=system.variable),
            lambda pids, number: processes.send(run, pids, number),
        )

    def tick(self) -> None:
        """Wait a little, and note what has happened."""
        self.exits += self._ends.wait(TICK)
        for entry in self._reader.new():
            self._ends.watch(entry.pid)
            self._told.pop(entry.pid, None)
            self._told[entry.pid] = entry.rank
            self.entries.append(entry)
            if entry.kind is Kind.STEP and self.injector.began is None:
                self.injector.began = entry.began
        if not any(entry.kind is Kind.DONE for entry in self.entries[-8:]):
            self.injector.tick(time.monotonic())

    def close(self, until: float | None) -> Story:
        """Return the story; `until` is when the training was given up."""
        self._ends.close()
        return Story(self.entries, self.injector.hits, self.exits, until)


def measured(
    cell: Cell, system: System, folder: Path, reference: Callable[[], float] | None
) -> Result:
    """Run a training, and return its figures.

    Args:
        cell: the training.
        system: the system of the cell.
        folder: an empty folder for its ledger, checkpoints and logs.
        reference: returns the seconds of a step of the raw loop, and is called after the training;
            None in that loop.

    Raises:
        CannotInstall: the packages of the system cannot be installed.
        Broken: a service of the system does not start.
    """
    workload = WORKLOADS[cell.workload].lasting(cell.seconds)
    before, limit = load(), LONGEST * cell.seconds + STARTING
    strikes: tuple[Strike, ...] = ()
    if cell.mtbf is not None:
        ranks = workload.work.ranks
        strikes = schedule(cell.seed, mtbf=cell.mtbf, seconds=limit, ranks=ranks)
    run = f"goodput-{secrets.token_hex(6)}"
    outer = _outer(system, workload, folder, run)
    watch = Watch(run, folder / "ledger", system, strikes)
    began = time.monotonic()
    with outer:
        while not outer.is_done and time.monotonic() < began + limit:
            watch.tick()
            outer.tick(time.monotonic())
    watch.tick()
    story = watch.close(None if outer.is_done else time.monotonic())
    steps, pace = story.steps, reference and reference()
    return Result(
        cell=cell,
        figures=Figures.of(story, workload.work, pace) if steps else None,
        is_done=outer.is_done,
        faults=len(story.hits),
        restarts=outer.restarts,
        start=steps[0].ended - began if steps else None,
        load_before=before,
        load_after=load(),
        log="" if outer.is_done else _log(folder),
    )


def _outer(system: System, workload: Workload, folder: Path, run: str) -> Outer:
    python = {"python": system.peer.python()} if system.peer else {}
    ports = [free_port() for _ in range(PORTS)]
    spot = Spot(run=run, folder=folder, workload=workload, ports=ports, **python)
    task = Task(workload, folder, system.every)
    env = environment(run, {**task.env, ledger.PATH: str(folder / "ledger")})
    return Outer(system.make(spot), folder, env)


def _log(folder: Path) -> str:
    texts = (path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    return "\n".join(texts)
