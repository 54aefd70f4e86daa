"""Renders docs/performance-operator.md from the results."""

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

This page compares the operator with other controllers that create the pods of a job, and with the
lowest cost that is possible with the same API server, in one run. `make bench` generates this page.
Its last run took {minutes:.0f} minutes:

    {command}

- Machine: {cores} cores, {processor}, {memory:.0f} GB; Python {python}; load average {load_before}
  before and {load_after} after. The control plane is real (etcd, API server, controllers,
  scheduler) and runs on the same cores. Its own clients may each send 2,000 requests per second.
- kwok simulates the nodes: a pod runs from its binding until it is terminated or deleted, whatever
  created it.
- Each measurement has its own control plane, with one finished job. The controllers take turns, in
  alternating order. The tables show the median, and the minimum and maximum in parentheses.
- Indexed Job: Kubernetes {kubernetes}. CPU and memory are those of the whole controller manager. It
  uses protobuf, while the others use JSON, and does not restart pods as a gang. The ranks of a
  training also need a headless Service to find each other: "Indexed Job and its Service" creates
  one for each Job.
- training-operator: Kubeflow's {training_operator} with its default settings, 20 requests per
  second and one worker, and a PyTorchJob with a master and workers. Its webhook is not installed,
  because all other jobs would have to pass it, too. A burst is observed for {patience:.0f} seconds.
- raw posts: the pods of the operator, created directly by {in_flight} concurrent requests.
- The API server counts the writes to jobs, pods, Services and events, without the creation of the
  jobs, and without the writes of the scheduler and kwok to pods. "All writes" also include those of
  the scheduler, kwok, and the endpoints controllers. "Bytes" are the bodies of the writes and of
  the scheduler's bindings, about 120 bytes per pod.
{elsewhere}
## Goals

| goal | size | here | peer | target | result | reached | reason if not |
|---|---|---|---|---|---|---|---|
"""


def page(made: Made, results: Sequence[Result]) -> str:
    """Return the whole page."""
    patience = max(way.patience or 0 for way in WAYS.values())
    facts: dict[str, Any] = {**made.run.facts, **made.versions, "minutes": made.seconds / 60}
    found = ((one.elsewhere, f"{one.line} ({size_text(one.size)})") for one in results)
    facts |= {"patience": patience, "in_flight": IN_FLIGHT, "elsewhere": measured_elsewhere(found)}
    head = HEAD.format(**facts)
    goals = [goal_row(goal, results) for goal in GOALS]
    return head + "\n".join([*goals, *_themes(results)]) + "\n"


def goal_row(goal: Goal, results: Sequence[Result]) -> str:
    """Return the row of a goal."""
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
        return row([*cells[:-1], "not measured at this size", NOTHING, ""])
    why = "" if verdict.is_reached else REASONS.get(goal.name, "")
    return row([*cells, "yes" if verdict.is_reached else "**no**", why])


def size_text(size: Size) -> str:
    """Format a size.

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
    """Yield the lines of the table of a theme, with a row for each case and way."""
    names = {line.name for line in lines}
    found = [one for one in results if one.line in names]
    facts = [fact for fact in FACTS if any(one.values(fact) for one in found)]
    if not found:
        yield "\nNot measured."
        return
    yield "\n" + row(["size", "controller", *(FACTS[fact][0] for fact in facts)])
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
