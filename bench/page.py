"""Renders docs/performance.md from the results."""

import statistics
from collections.abc import Iterable, Iterator, Sequence

from bench.case import KINDS, Case, Goal, Result, reached
from bench.cases import CASES, THEMES
from bench.machine import Run
from bench.plots import PLOTS, Plot, is_measured
from bench.quantity import digits, quantity, size_text
from bench.reasons import REASONS

NOTHING = "—"
SUMMARY = {
    *("first-keyed-time", "first-keyed-memory", "resume-keyed", "dispatcher-time", "step"),
    *("scheduler-cosine", "checkpoint-pause", "launch", "gpu-step", "gpu-save-steps"),
}
HEAD = """# Performance

<!-- Made by `python -m bench` from performance/results.json; do not edit. -->

Some costs next to those of Hugging Face Accelerate {accelerate}; all of them are below.

{summary}

## How it is measured

Every benchmark measures Accelerate {accelerate}, this runtime, and a floor, the lowest cost that is
possible on this machine, in one run. `make bench` generates this page. Its last run was

    {command}

- Machine: {cores} cores, {processor}, {memory:.0f} GB; Python {python}, torch {torch}; load
  average {load_before} before and {load_after} after.
- All sides must compute the same results (batches, losses, learning rates, weights); otherwise the
  run fails. A keyed order differs from torch's order, so there only the counts must agree.
- Each library runs in its own processes. The libraries take turns, in alternating order, for
  {rounds} rounds, or fewer if a round takes long. The tables show the median, and the minimum and
  maximum in parentheses; a ratio is the median over the rounds. Each process has one thread.
- `processes` are real processes that communicate over gloo on this machine, and share its cores. A
  `world` is simulated: one process does the work of one rank, without communication.
- *unsteady* marks a ratio that differed by more than a factor of two between the rounds.
- The operator has [its own page](performance-operator.md), which `make bench` also generates.
{elsewhere}
## Goals

`≥ n x` means that Accelerate's cost is at least n times the cost of this runtime. `≤ n x floor`
means that the cost of this runtime is at most n times the floor.

<details markdown="1">
<summary>All goals, and why some are missed</summary>

| benchmark | size | Accelerate | here | floor | goal | result | reached | reason if not |
|---|---|---|---|---|---|---|---|---|
"""


def page(run: Run, results: Sequence[Result]) -> str:
    """Return the whole page."""
    titles = {case.name: case.what for case in CASES}
    told = measured_elsewhere((result.elsewhere, titles[result.case]) for result in results)
    summary = "\n".join(_summary(results))
    head = HEAD.format(**run.facts, elsewhere=told, summary=summary)
    lines = [summary_row(case, results) for case in CASES]
    return head + "\n".join([*lines, "\n</details>", *_themes(results)]) + "\n"


def _summary(results: Sequence[Result]) -> Iterator[str]:
    """Yield the table and the pictures that come first."""
    yield row(["what", "size", "Accelerate", "here", "Accelerate / here"])
    yield "|---|---|---|---|---|"
    for case in (case for case in CASES if case.name in SUMMARY):
        result = _chosen(case, results)
        size = size_text(result.size) or NOTHING
        medians = [quantity(result.median(column), case.unit) for column in ("theirs", "ours")]
        yield row([case.what, size, *medians, _ratio(result)])
    for plot in PLOTS:
        if is_measured(plot, results):
            yield f"\n{_picture(plot)}\n\n{plot.caption(results)}".rstrip()


def summary_row(case: Case, results: Sequence[Result]) -> str:
    """Return the row of a case in the table of goals."""
    result = _chosen(case, results)
    medians = [quantity(result.median(column), case.unit) for column in ("theirs", "ours", "floor")]
    cells = [case.what, size_text(result.size) or NOTHING, *medians, *_judged(case, result)]
    return row(cells)


def _chosen(case: Case, results: Sequence[Result]) -> Result:
    """Return the result at the size of the goal, or else at the largest measured size."""
    own = [result for result in results if result.case == case.name]
    at_goal = [result for result in own if case.goal and result.size == case.goal.at]
    missing = Result(case.name, case.goal.at if case.goal else case.sizes[-1], {})
    return [missing, *own, *at_goal][-1]


def measured_elsewhere(found: Iterable[tuple[str, str]]) -> str:
    """Return the lines about cases that an earlier run measured at another place.

    Args:
        found: the place of each result, empty for that of the page, and the title of its case.
    """
    places: dict[str, dict[str, None]] = {}
    for place, title in found:
        if place:
            places.setdefault(place, {})[title] = None
    said = (f"- Measured earlier, on {place}: {'; '.join(it)}.\n" for place, it in places.items())
    return "".join(said)


def row(cells: Sequence[str]) -> str:
    """Format a row of a table."""
    return f"| {' | '.join(cells)} |"


def _judged(case: Case, result: Result) -> list[str]:
    """Return the cells for the goal, the value, whether the goal is reached, and why not."""
    if case.goal is None:
        found = _ratio(result) if result.samples else "not measured"
        return [NOTHING, found, NOTHING, ""]
    if not result.samples or result.size != case.goal.at:
        return [_limit(case.goal, case.unit), "not measured at this size", NOTHING, ""]
    found = said(case.goal, KINDS[case.goal.kind].value(result), case.unit)
    is_reached = reached(case.goal, result)
    why = "" if is_reached else REASONS.get(case.name, "")
    return [
        _limit(case.goal, case.unit),
        found + ("" if result.is_steady else " (unsteady)"),
        "yes" if is_reached else "**no**",
        why,
    ]


def _limit(goal: Goal, unit: str) -> str:
    sign = "≥" if KINDS[goal.kind].at_least else "≤"
    return f"{sign} {said(goal, goal.limit, unit)}"


def said(goal: Goal, value: float, unit: str) -> str:
    """Format the limit of a goal, or a measured value."""
    is_ratio = goal.kind in ("faster", "of floor")
    return KINDS[goal.kind].text.format(digits(value) if is_ratio else quantity(value, unit))


def _ratio(result: Result) -> str:
    ratios = result.ratios("theirs", "ours")
    if not ratios:
        return NOTHING
    spread = f"{digits(min(ratios))} - {digits(max(ratios))}"
    unsteady = "" if result.is_steady else ", unsteady"
    return f"{digits(statistics.median(ratios))} x ({spread}{unsteady})"


def _themes(results: Sequence[Result]) -> Iterator[str]:
    for theme in THEMES:
        yield f'\n## {theme.capitalize()}\n\n<details markdown="1">\n<summary>All sizes</summary>'
        for case in CASES:
            if case.theme == theme:
                yield from _details(case, results)
        yield "\n</details>"


def _picture(plot: Plot) -> str:
    return f"![{plot.title}](performance/{plot.name}.svg)"


def _details(case: Case, results: Sequence[Result]) -> Iterator[str]:
    yield f"\n### {case.what}\n"
    if case.floor_is:
        yield f"Floor: {case.floor_is}.\n"
    if not any(result.case == case.name for result in results):
        yield "Not measured."
        return
    yield row(["size", "Accelerate", "here", "floor", "Accelerate / here", "here / floor"])
    yield "|---|---|---|---|---|---|"
    for result in results:
        if result.case == case.name:
            cells = [_spread(result, column, case.unit) for column in ("theirs", "ours", "floor")]
            floors = result.ratios("ours", "floor")
            floor = f"{digits(statistics.median(floors))} x" if floors else NOTHING
            yield row([size_text(result.size) or NOTHING, *cells, _ratio(result), floor])


def _spread(result: Result, column: str, unit: str) -> str:
    samples = result.samples.get(column)
    if not samples:
        return NOTHING
    least, most = quantity(min(samples), unit), quantity(max(samples), unit)
    median = quantity(result.median(column), unit)
    return median if least == most else f"{median} ({least} - {most})"
