"""docs/performance-operator.md, made of what was measured."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bench.case import Size
from bench.operator.client import IN_FLIGHT
from bench.operator.lines import FACTS, GOALS, LINES, THEMES, WAYS, Goal, Line
from bench.operator.plots import PLOTS, is_measured
from bench.operator.reasons import REASONS
from bench.operator.results import Made, Result, Verdict
from bench.page import NOTHING, measured_elsewhere, row
from bench.quantity import digits, quantity

HEAD = """# Performance of the operator

<!-- Made by `python -m bench.operator` from performance/operator.json; do not edit. -->

The operator next to others that make a job's pods, and to the least that the same API server
allows, in one run. `make bench` makes this page; it was last made, in {minutes:.0f} minutes, by

    {command}

- Machine: {cores} cores, {processor}, {memory:.0f} GB; Python {python}; load average {load_before}
  before and {load_after} after. The control plane is real (etcd, API server, controllers,
  scheduler), allows 2,000 requests a second of each client of its own, and is on the same cores.
- Nodes are kwok's: a pod runs from when it is bound until it is ended or deleted, whoever made it.
- Each turn has a control plane of its own, with one job that has ended; the ways take turns, there
  and back. What is shown are medians, in brackets the least and the most.
- Indexed Job: Kubernetes {kubernetes}. CPU and memory are the whole controller manager's. It speaks
  protobuf, where the others speak JSON, and knows no gang. A training's ranks also need a headless
  Service to find each other: Indexed Job and its Service has one made beside each Job.
- training-operator: Kubeflow's {training_operator}, a PyTorchJob of a master and its workers, as it
  is shipped: 20 requests a second, one worker. Its webhook, which others' jobs must pass as well,
  is left out. A burst is followed for {patience:.0f} seconds.
- raw posts: the operator's pods themselves, {in_flight} requests side by side.
- Writes are counted by the API server, and are those to jobs, pods, Services and events; the jobs'
  own creation is left out, and so is what scheduler and kwok do to pods. Writes of all are
  whoever's: of scheduler, kwok, and the controllers that follow a Service's pods. Bytes are in
  the writes' bodies, and in those of the scheduler's bindings, some 120 bytes a pod.
{elsewhere}
## Goals

| what | at | here | peer | goal | found | reached | why not |
|---|---|---|---|---|---|---|---|
"""


def page(made: Made, results: Sequence[Result]) -> str:
    """The whole page."""
    patience = max(way.patience or 0 for way in WAYS.values())
    facts: dict[str, Any] = {**made.run.facts, **made.versions, "minutes": made.seconds / 60}
    found = ((one.elsewhere, f"{one.line} ({size_text(one.size)})") for one in results)
    facts |= {"patience": patience, "in_flight": IN_FLIGHT, "elsewhere": measured_elsewhere(found)}
    head = HEAD.format(**facts)
    goals = [goal_row(goal, results) for goal in GOALS]
    return head + "\n".join([*goals, *_themes(results)]) + "\n"


def goal_row(goal: Goal, results: Sequence[Result]) -> str:
    """A goal's row."""
    (line,) = (line for line in LINES if line.name == goal.line)
    verdict = Verdict.on(goal, [one for one in results if one.size == line.size])
    unit = FACTS[goal.fact][1]
    cells = [
        goal.what,
        size_text(line.size),
        quantity(verdict.here, unit),
        quantity(verdict.peer, unit),
    ]
    if goal.peer:
        cells += [f"≥ {digits(goal.limit)} x", f"{digits(verdict.found)} x"]
    else:
        cells += [f"≤ {quantity(goal.limit, unit)}", quantity(verdict.found, unit)]
    if math.isnan(verdict.found):
        return row([*cells[:-1], "not measured there", NOTHING, ""])
    why = "" if verdict.is_reached else REASONS.get(goal.name, "")
    return row([*cells, "yes" if verdict.is_reached else "**no**", why])


def size_text(size: Size) -> str:
    """A size in words.

    >>> size_text({"jobs": 64, "pods": 8}), size_text({"pods": 8})
    ('64 x 8', '8 pods')
    """
    if not size:
        return ""
    return f"{size['jobs']} x {size['pods']}" if "jobs" in size else f"{size['pods']} pods"


def _themes(results: Sequence[Result]) -> Iterator[str]:
    for theme, (title, text) in THEMES.items():
        yield f"\n## {title}\n\n{text}"
        for plot in PLOTS:
            if plot.theme == theme and is_measured(plot, results):
                yield f"\n![{plot.title}](performance/{plot.name}.svg)"
        lines = [line for line in LINES if line.theme == theme]
        yield from _table(lines, results)


def _table(lines: Sequence[Line], results: Sequence[Result]) -> Iterator[str]:
    """Lines of one theme, a row for each way."""
    names = {line.name for line in lines}
    found = [one for one in results if one.line in names]
    facts = [fact for fact in FACTS if any(one.values(fact) for one in found)]
    if not found:
        yield "\nNot measured."
        return
    yield "\n" + row(["at", "way", *(FACTS[fact][0] for fact in facts)])
    yield row(["---"] * (2 + len(facts)))
    for one in found:
        cells = [_spread(one, fact) for fact in facts]
        yield row([size_text(one.size), WAYS[one.way].title, *cells])


def _spread(result: Result, fact: str) -> str:
    values, unit = result.values(fact), FACTS[fact][1]
    if not values:
        return NOTHING
    median, least, most = (
        quantity(value, unit) for value in (result.median(fact), min(values), max(values))
    )
    return median if least == most else f"{median} ({least} - {most})"
