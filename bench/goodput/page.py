"""Renders docs/performance-goodput.md from the results."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from bench.goodput.cell import LONGEST, Result
from bench.goodput.metrics import quantile
from bench.goodput.outages import PARTS
from bench.goodput.plots import PICTURE, is_measured
from bench.goodput.schedule import GRACE, SLOW, WEIGHTS, Fault
from bench.goodput.summary import (
    Recovery,
    Summary,
    best,
    equal_bits,
    oracles,
    overhead,
    settings,
)
from bench.goodput.systems.table import BY_NAME, GROUPS
from bench.goodput.workloads import (
    COLLECTIVE_LIMIT,
    SAVE_LIMIT,
    STEP_LIMIT,
    WORKLOADS,
    Workload,
)
from bench.machine import Run
from bench.page import NOTHING, row

NOT_MEASURED = "not measured"
MTBFS = (15.0, 60.0, 240.0)
GOAL, GOAL_AT = 0.9, 60.0  # the goodput that is asked for, at this mean time between faults
JOB = ("ETTR", "job time", "faults", "steps done again")
DAGGER, UNFINISHED = "†", "‡"
HEAD = """# Goodput

<!-- Made by `python -m bench.goodput` from performance/goodput.json; do not edit. -->

How much of the time a training keeps when its processes die, hang and are preempted. Goodput is the
time that a raw loop without faults takes for the samples that the final weights contain, divided by
the time that the training took from its first step on. The raw loop runs for a short time before
each training and after it, because the speed of a machine changes, and their mean counts. A system
whose steps are slower than those of the raw loop has a lower goodput, also without faults.

## How it is measured

    {command}

- {machine}
- {amount}
- {ranks} ranks run on this machine and communicate over gloo. A schedule of faults is made from a
  seed, with exponential times between faults: {weights}.
  The same schedule hits every system. It goes by wall time: a system that recovers slowly is hit
  again before much is trained. A fault waits until its rank has a process.
- A preempted rank gets SIGTERM, and SIGKILL after {grace:.0f} s. A rank that hangs is stopped for
  ever. A straggler is stopped for half of the time, for {slow:.0f} s. Every system takes a rank for
  hanging that has done no step for {limit:.0f} s; dlrover, which has no such timer, one whose
  collective takes {collective:.0f} s; and with the larger state NVRx one that has said nothing for
  {save:.0f} s, since it says nothing in a save.
- A timer of torchrun ends a rank that hangs. It is set twice a second, because it would cost 20 ms
  to set it in each step.
- Every system has the same outer loop, which stands for the restart policy of a pod: it starts
  again at once what has ended with an error, after it has killed what was left of it. "New pods
  only" is this project without restarts in place: the loop ends a pod that reports a hang, as the
  operator does. "In place" also has checkpoints in memory, as dlrover, and a process in reserve for
  each rank, as NVRx inprocess.
- For each step, a rank writes a record with its samples to a file that is not part of the system,
  by one write(2). {dagger} marks trainings that lost or repeated samples, {unfinished} those that
  did not end within {longest} times the work.
- Where a setting decides how often a training saves, the best of those that were measured is shown.
- The oracle knows of each fault at once and redoes no step. A restart takes it as long as the raw
  loop needs for its first step, most of which is the import of torch: a system with processes in
  reserve can be faster.
"""


def page(run: Run | None, results: Sequence[Result], missing: Mapping[str, str]) -> str:
    """Return the whole page.

    Args:
        run: the machine and the command; None if nothing was measured.
        results: the results.
        missing: why a system cannot be measured, by its name.
    """
    total = sum(WEIGHTS.values())
    weights = ", ".join(f"{fault} {100 * part / total:.0f} %" for fault, part in WEIGHTS.items())
    head = HEAD.format(
        command=run.command if run else "python -m bench.goodput run",
        machine=_machine(run, results),
        amount=_amount(results),
        weights=weights,
        limit=STEP_LIMIT,
        collective=COLLECTIVE_LIMIT,
        save=SAVE_LIMIT,
        ranks=next(iter(WORKLOADS.values())).work.ranks,
        grace=GRACE,
        slow=SLOW,
        dagger=DAGGER,
        unfinished=UNFINISHED,
        longest=LONGEST,
    )
    lines = [line for workload in WORKLOADS.values() for line in _workload(workload, results)]
    return head + "\n".join([*lines, *_correctness(results), *_missing(missing)]) + "\n"


def _machine(run: Run | None, results: Sequence[Result]) -> str:
    if run is None:
        return f"Machine: {NOT_MEASURED}."
    most = _range([float(one.load_before) for one in results], ".1f")
    return (
        f"Machine: {run.cores} cores, {run.processor}, {run.memory:.0f} GB; Python {run.python}, "
        f"torch {run.torch}; load average before a training: {most}."
    )


def _range(values: Sequence[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}" if values else NOT_MEASURED


def _amount(results: Sequence[Result]) -> str:
    """Say how long the trainings are, and how many there are of each kind."""
    seconds = sorted({one.cell.seconds for one in results})
    seeds = sorted({one.cell.seed for one in results if one.cell.mtbf is not None})
    told = (", ".join(f"{one:g}" for one in values) or NOT_MEASURED for values in (seconds, seeds))
    return "A training has work for {} s without faults. Seeds of the faults: {}.".format(*told)


def _workload(workload: Workload, results: Sequence[Result]) -> Iterator[str]:
    """Yield the tables of a workload."""
    yield f"\n## {workload.title}\n"
    if not _has(results, workload):
        yield f"This workload was {NOT_MEASURED}."
        return
    if is_measured(results, workload):
        yield f"{_picture(workload)}\n"
    own = [one.figures for one in results if one.figures and one.cell.workload == workload.name]
    paces = _range([1000 * one.reference for one in own], ".0f")
    yield f"Before and after the trainings a step of the raw loop took {paces} ms: the speed of the"
    yield "machine changes that much, also within a training.\n"
    yield f"Goodput by the mean time between two faults; the mean of the seeds. The goal is {GOAL}"
    yield f"at {GOAL_AT:.0f} s, and more than every other system.\n"
    yield from goodputs(workload, results)
    yield f"\nAt {GOAL_AT:.0f} s: ETTR is the part of the time in which kept steps"
    yield "were done, whatever their speed; job time begins with the first start.\n"
    yield from _table(
        JOB, {one: _job(best(results, one, workload.name, GOAL_AT)) for one in GROUPS[1:]}
    )
    yield "\nSeconds without a step after a fault that came alone, in the best settings: median and"
    yield "95th percentile.\n"
    yield from _table(
        [*Fault, "hang is noticed", "steps done again"],
        {group: _recovery(workload, group, results) for group in GROUPS[1:]},
    )
    yield "\nThe parts of that time after the kill of a rank, as medians in seconds.\n"
    parts = {one: Recovery.of(results, one, workload.name, Fault.KILL).parts for one in GROUPS[1:]}
    yield from _table(
        PARTS, {one: [_seconds(found[part]) for part in PARTS] for one, found in parts.items()}
    )


def goodputs(workload: Workload, results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of goodputs."""
    told = [_mean(oracles(results, workload.name, mtbf)) for mtbf in MTBFS]
    yield from _table(
        [*(f"{mtbf:.0f} s" for mtbf in MTBFS), "without faults", "best setting"],
        {group: _goodputs(workload, group, results) for group in GROUPS}
        | {"oracle": [*told, NOTHING, ""]},
    )


def excerpt(results: Sequence[Result]) -> Iterator[str]:
    """Yield what another page shows: the goodputs of each workload that is measured."""
    for workload in (one for one in WORKLOADS.values() if _has(results, one)):
        yield f"{workload.title}; goodput by the mean time between two faults:\n"
        yield from goodputs(workload, results)
        if is_measured(results, workload):
            yield f"\n{_picture(workload)}"


def _has(results: Sequence[Result], workload: Workload) -> bool:
    return any(one.cell.workload == workload.name for one in results)


def _picture(workload: Workload) -> str:
    return f"![where the time of a training went]({PICTURE.format(workload.name)})"


def _table(titles: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a table with a row for each system of which something was measured."""
    unknown = {NOT_MEASURED, NOTHING, ""}
    known = {name: cells for name, cells in rows.items() if not unknown.issuperset(cells)}
    if known:
        yield row(["system", *titles])
        yield row(["---"] * (len(titles) + 1))
    for name, cells in known.items():
        yield row([name, *cells])
    if len(known) < len(rows):
        missing = "; ".join(name for name in rows if name not in known)
        yield ("\n" if known else "") + f"{NOT_MEASURED.capitalize()}: {missing}."


def _goodputs(workload: Workload, group: str, results: Sequence[Result]) -> list[str]:
    found = [best(results, group, workload.name, mtbf) for mtbf in (*MTBFS, None)]
    names = {one.results[0].cell.system: None for one in found[:-1] if one}
    told = "; ".join(setting for name in names if (setting := BY_NAME[name].setting))
    own, every = _measured(workload, group, results), settings(group)
    few = f" ({len(own)} of {len(every)} measured)" if told and len(own) < len(every) else ""
    return [*(_goodput(one) for one in found), told + few]


def _measured(workload: Workload, group: str, results: Sequence[Result]) -> set[str]:
    """Return the systems of a group, one a setting, that were measured with faults."""
    found = (one.cell for one in results if one.cell.workload == workload.name)
    struck = {one.system for one in found if one.mtbf is not None}
    return struck.intersection(settings(group))


def _goodput(summary: Summary | None) -> str:
    if summary is None:
        return NOT_MEASURED
    least, most = min(summary.goodputs), max(summary.goodputs)
    spread = f" ({least:.2f} - {most:.2f})" if least < most else ""
    marks = DAGGER * summary.has_marred + UNFINISHED * summary.has_unfinished
    return f"{summary.goodput:.3f}{spread}{marks}"


def _job(summary: Summary | None) -> list[str]:
    if summary is None or not summary.figures:
        return [NOT_MEASURED] * len(JOB)
    seconds = [one.job_seconds for one in summary.results if one.job_seconds is not None]
    faults = statistics.fmean(one.faults for one in summary.results)
    cells = [_mean([summary.mean("ettr")]), f"{statistics.fmean(seconds):.0f} s", f"{faults:.1f}"]
    return [*cells, f"{summary.mean('redone'):.1f}"]


def _recovery(workload: Workload, group: str, results: Sequence[Result]) -> list[str]:
    found = [Recovery.of(results, group, workload.name, fault) for fault in Fault]
    cells = [
        f"{_seconds(quantile(one.seconds, 0.5))} / {_seconds(quantile(one.seconds, 0.95))}"
        if one.seconds
        else NOT_MEASURED
        for one in found
    ]
    noticed = quantile(found[list(Fault).index(Fault.HANG)].verdicts, 0.5)
    redone = [steps for one in found for steps in one.redone]
    again = f"{quantile(redone, 0.5):.0f}" if redone else NOT_MEASURED
    return [*cells, _seconds(noticed), again]


def _seconds(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def _mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}" if values else NOT_MEASURED


def _correctness(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table of what must not happen."""
    yield "\n## Correctness and costs\n"
    yield "Sums over all trainings with faults, of all settings. Equal bits: the final weights are"
    yield "those of the same system without faults. The overhead is how much slower the"
    yield "steps are without faults, in the setting in which they are fastest.\n"
    titles = (
        "faults",
        "samples lost",
        "samples repeated",
        "equal bits",
        "restarts by the outer loop",
    )
    yield from _table(
        [*titles, *(f"overhead, {one.title}" for one in WORKLOADS.values())],
        {group: [*_sums(group, results), *_overheads(group, results)] for group in GROUPS[1:]},
    )


def _sums(group: str, results: Sequence[Result]) -> list[str]:
    own = [one for one in results if BY_NAME[one.cell.system].group == group]
    struck = [one for one in own if one.cell.mtbf is not None]
    equal, judged = equal_bits(results, group)
    sums = [
        sum(one.faults for one in struck),
        sum(one.figures.lost for one in struck if one.figures),
        sum(one.figures.repeated for one in struck if one.figures),
        f"{equal} of {judged}",
        sum(one.restarts for one in struck),
    ]
    return [str(one) for one in sums] if struck else [NOT_MEASURED] * len(sums)


def _overheads(group: str, results: Sequence[Result]) -> Iterator[str]:
    for workload in WORKLOADS:
        found = [overhead(results, name, workload) for name in settings(group)]
        known = [one for one in found if not math.isnan(one)]
        yield f"{100 * min(known):.1f} %" if known else NOT_MEASURED


def _missing(missing: Mapping[str, str]) -> Iterator[str]:
    """Yield why systems cannot be measured."""
    if missing:
        yield "\n## Not measured\n"
    for name, why in missing.items():
        yield f"- {name}: {why}"
