"""What the page says of the trainings of a group of systems; pure."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.goodput.cell import Result
from bench.goodput.metrics import SPENT, Figures, oracle, quantile
from bench.goodput.outages import PARTS
from bench.goodput.schedule import Fault, schedule
from bench.goodput.systems.table import BY_NAME, RAW, SYSTEMS
from bench.goodput.workloads import WORKLOADS


@dataclass(frozen=True, slots=True)
class Summary:
    """The trainings of a system with the same workload and the same mean time between faults.

    Attributes:
        results: the trainings, one a seed; not empty.
    """

    results: Sequence[Result]

    @property
    def figures(self) -> list[Figures]:
        """The figures of the trainings that made a step."""
        return [one.figures for one in self.results if one.figures is not None]

    @property
    def goodputs(self) -> list[float]:
        """The goodput of each training; 0 if it did not make a step."""
        return [0.0 if one.figures is None else one.figures.goodput for one in self.results]

    @property
    def goodput(self) -> float:
        """The mean of the goodputs."""
        return statistics.fmean(self.goodputs)

    @property
    def has_marred(self) -> bool:
        """Whether samples were lost or repeated."""
        return any(one.lost or one.repeated for one in self.figures)

    @property
    def has_unfinished(self) -> bool:
        """Whether a training did not come to its end."""
        return not all(one.is_done for one in self.results)

    def mean(self, name: str) -> float:
        """Return the mean of a field of the figures; nan without figures."""
        values = [float(getattr(one, name)) for one in self.figures]
        return statistics.fmean(values) if values else math.nan

    def spent(self) -> dict[str, float]:
        """Return the part of the time that went to each of `SPENT`."""
        total = sum(one.seconds for one in self.figures) or math.nan
        return {name: sum(one.spent[name] for one in self.figures) / total for name in SPENT}


def best(
    results: Iterable[Result], group: str, workload: str, mtbf: float | None
) -> Summary | None:
    """Return the trainings of the setting with the best mean goodput; None without any."""
    found: dict[str, list[Result]] = {}
    for one in results:
        system = BY_NAME[one.cell.system]
        if (system.group, one.cell.workload, one.cell.mtbf) == (group, workload, mtbf):
            found.setdefault(system.name, []).append(one)
    summaries = [Summary(own) for own in found.values()]
    return max(summaries, key=lambda one: one.goodput, default=None)


def shown(results: Iterable[Result], group: str, workload: str) -> list[Result]:
    """Return the trainings with faults of the settings that are the best at some mean time."""
    own = [
        one
        for one in results
        if BY_NAME[one.cell.system].group == group
        if one.cell.workload == workload and one.cell.mtbf is not None
    ]
    found = (best(own, group, workload, mtbf) for mtbf in {one.cell.mtbf for one in own})
    names = {one.results[0].cell.system for one in found if one is not None}
    return [one for one in own if one.cell.system in names]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a group recovers from a kind of fault.

    Attributes:
        seconds: the time without a step, of each fault that came alone.
        redone: the steps that were done again, of each.
        parts: the median of each part of the time, by its name.
        verdicts: the seconds until the system reacted, of each.
    """

    seconds: Sequence[float]
    redone: Sequence[int]
    parts: dict[str, float]
    verdicts: Sequence[float]

    @classmethod
    def of(cls, results: Iterable[Result], group: str, workload: str, fault: Fault) -> "Recovery":
        """Return the recoveries in the best settings; faults in an outage are left out."""
        found = [
            outage
            for one in shown(results, group, workload)
            for outage in (one.figures.outages if one.figures else ())
            if outage["fault"] == fault and outage["faults"] == 1
        ]
        parts = {part: quantile([one["split"][part] for one in found], 0.5) for part in PARTS}
        return cls(
            [one["seconds"] for one in found],
            [one["redone"] for one in found],
            parts,
            [one["split"]["detect"] for one in found],
        )


def overhead(results: Sequence[Result], system: str, workload: str) -> float:
    """Return how much longer trainings without faults take than the raw loop, with the same work.

    The raw loop is that before and after the training. The mean, if there are several durations;
    nan if it is unknown.

    >>> overhead([], "ours", "step")
    nan
    """
    ratios = [
        one.figures.seconds / (one.figures.reference * one.cell.steps)
        for one in results
        if one.figures and one.cell.mtbf is None
        if (one.cell.system, one.cell.workload) == (system, workload)
    ]
    return statistics.fmean(ratios) - 1 if ratios else math.nan


def equal_bits(results: Sequence[Result], group: str) -> tuple[int, int]:
    """Return how many trainings with faults end with the bits of one without, and of how many."""
    clean = {
        (one.cell.system, one.cell.workload, one.cell.seconds): one.figures.digest
        for one in results
        if one.figures and one.cell.mtbf is None
    }
    pairs = [
        (one.figures and one.figures.digest, clean[key])
        for one in results
        if BY_NAME[one.cell.system].group == group and one.cell.mtbf is not None
        if (key := (one.cell.system, one.cell.workload, one.cell.seconds)) in clean
    ]
    return sum(a == b is not None for a, b in pairs), len(pairs)


def oracles(results: Iterable[Result], workload: str, mtbf: float) -> list[float]:
    """Return the goodput of the oracle for each seed and duration that was measured.

    It needs the time for the first step of the raw loop for each restart.
    """
    every = [one for one in results if one.cell.workload == workload]
    raw = next((one for one in every if one.cell.system == RAW and one.figures), None)
    cells = {(one.cell.seed, one.cell.seconds) for one in every if one.cell.mtbf == mtbf}
    if raw is None or raw.figures is None or raw.start is None:
        return []
    step = raw.figures.seconds / raw.cell.steps
    found = []
    for seed, seconds in sorted(cells):
        work = WORKLOADS[workload].lasting(seconds).work
        strikes = schedule(seed, mtbf=mtbf, seconds=100 * seconds, ranks=work.ranks)
        needed = work.steps * step
        found.append(needed / oracle(strikes, seconds=needed, restart=raw.start))
    return found


def settings(group: str) -> list[str]:
    """Return the names of the systems of a group."""
    return [one.name for one in SYSTEMS if one.group == group]
