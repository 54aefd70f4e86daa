"""The results of runs in a cluster, and where they are stored."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from bench.goodput.cluster.faults import DISTURBANCES, NONE
from bench.goodput.cluster.systems import SYSTEMS
from bench.goodput.cluster.verdict import Verdict
from bench.machine import Run

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


@dataclass(frozen=True, slots=True)
class Stored:
    """The results, which may be of several commands.

    Attributes:
        run: the machine and the last command; None if nothing was measured.
        results: the results, in the order of the page.
        missing: why a system cannot be measured, by its name.
    """

    run: Run | None
    results: Sequence[Result]
    missing: Mapping[str, str]

    def find(self, cell: Cell) -> Result | None:
        """Return the result of a run; None if it was not measured."""
        return next((one for one in self.results if one.cell == cell), None)


def read(folder: Path) -> Stored:
    """Read what is stored.

    Args:
        folder: the folder of the page.
    """
    file = folder / RESULTS
    if not file.exists():
        return Stored(None, [], {})
    facts = json.loads(file.read_text(encoding="utf-8"))
    results = [Result.of(one) for one in facts["results"]]
    return Stored(facts["run"] and Run(**facts["run"]), results, facts["missing"])


def write(folder: Path, stored: Stored) -> None:
    """Write the results; one replaces an older one of the same run."""
    file = folder / RESULTS
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(one.facts) for one in ordered(stored.results))
    run, missing = json.dumps(stored.run and stored.run.facts), json.dumps(stored.missing)
    text = f'{{"run": {run},\n"missing": {missing},\n"results": [\n{lines}\n]}}\n'
    file.write_text(text, encoding="utf-8")


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
