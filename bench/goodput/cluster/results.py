"""The results of runs in a cluster, and where they are stored."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.goodput import stored
from bench.goodput.cluster.faults import DISTURBANCES, NONE
from bench.goodput.cluster.systems import SYSTEMS
from bench.goodput.cluster.verdict import Verdict

RESULTS = "performance/cluster.json"  # relative to the folder of the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run.

    Attributes:
        system: the name of the system.
        fault: the name of the fault, or `NONE`.
        round: the number of the run with the same system and fault, from 0.
    """

    system: str
    fault: str
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run has shown.

    Attributes:
        cell: the run.
        verdict: the verdict; None if it never made a step.
        pods: the pods that were replaced.
        containers: the restarts of containers in their pods.
        start: the seconds until the first step; None if there was none.
        load_before: the load average of the minute before.
        load_after: the load average of the last minute of the run.
        is_quiet: whether nothing else ran on the machine, as the command line said.
        log: the end of the logs, if it did not end by itself.
    """

    cell: Cell
    verdict: Verdict | None
    pods: int
    containers: int
    start: float | None
    load_before: str
    load_after: str
    is_quiet: bool = False
    log: str = ""

    @property
    def facts(self) -> Mapping[str, Any]:
        """All fields, as JSON."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Return the result of its facts."""
        verdict = facts["verdict"]
        made = {"cell": Cell(**facts["cell"]), "verdict": verdict and Verdict(**verdict)}
        return cls(**{**facts, **made})


Stored = stored.Stored[Result]


def read(folder: Path) -> Stored:
    """Read what is stored.

    Args:
        folder: the folder of the page.
    """
    return stored.read(folder / RESULTS, Result.of)


def write(folder: Path, found: Stored) -> None:
    """Write the results; one replaces an older one of the same run."""
    stored.write(folder / RESULTS, found.run, ordered(found.results), found.missing)


def ordered(results: Iterable[Result]) -> list[Result]:
    """Return the latest result of each run, in the order of the page."""
    latest = {one.cell: one for one in results}
    systems = [one.name for one in SYSTEMS]
    faults = [NONE, *(one.name for one in DISTURBANCES)]
    return sorted(
        latest.values(),
        key=lambda one: (
            faults.index(one.cell.fault),
            systems.index(one.cell.system),
            one.cell.round,
        ),
    )
