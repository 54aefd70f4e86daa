"""Writes the parts of the page; every text is escaped here."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from html import escape
from typing import Final

from runtime.control.progress.encoding import camel
from runtime.control.progress.interest import by_interest, own_seconds
from runtime.control.progress.page import charts
from runtime.control.progress.page.text import UNKNOWN, clock, duration, number, of, short, whole
from runtime.control.progress.snapshot import Lost, Snapshot

_SHOWN_RANKS: Final = 5
_LEAST_FOR_CURVE: Final = 2
_LEGEND: Final = (
    *((f"heat-{index}", f"≤ {bound:g}") for index, bound in enumerate(charts.LEVELS)),
    (f"heat-{len(charts.LEVELS)}", "more"),
    ("heat-none", "unknown"),
)


def sections(snapshot: Snapshot) -> Iterator[str]:
    """Yield the HTML of the parts, from top to bottom."""
    yield from _head(snapshot)
    yield from _verdicts(snapshot)
    yield from _facts(snapshot)
    yield from _section("Loss", _loss(snapshot))
    yield from _section("Ranks", _ranks(snapshot))
    yield from _section("Checkpoints", _checkpoints(snapshot))
    yield from _section("Goodput of this attempt", _goodput(snapshot))
    yield from _section("Logged by the script", _metrics(snapshot))


def _section(title: str, content: Iterable[str]) -> Iterator[str]:
    """Yield a section, unless it has no content."""
    text = "".join(content)
    if text:
        yield f"<section><h2>{escape(title)}</h2>{text}</section>"


def _head(snapshot: Snapshot) -> Iterator[str]:
    share = snapshot.step / snapshot.total_steps if snapshot.step and snapshot.total_steps else 0.0
    percent = "" if snapshot.percent is None else f"<strong>{snapshot.percent}%</strong>"
    life = f", life {snapshot.life}" if snapshot.life else ""
    yield f"<header><h1>{escape(snapshot.name or 'Training')}</h1>"
    yield f"<p>attempt {snapshot.attempt}{life} · {whole(len(snapshot.ranks))} ranks</p></header>"
    yield f'<div class="progress">{percent}'
    yield f"<span>step {of(snapshot.step, snapshot.total_steps)}</span>"
    yield f"<span>epoch {of(snapshot.epoch, snapshot.epochs)}</span>"
    yield f'<span class="eta">ETA {duration(snapshot.eta_seconds)}</span></div>'
    yield charts.bar([("done", min(1.0, share))], f"{share:.0%} done")


def _verdicts(snapshot: Snapshot) -> Iterator[str]:
    for one in snapshot.verdicts:
        facts = (("rank", one.rank), ("replica", one.replica), ("node", one.node))
        where = ", ".join(f"{name} {value}" for name, value in facts if value is not None)
        since = f" since {clock(one.since)}" if one.since else ""
        yield f'<div class="verdict" role="alert"><strong>{one.kind}</strong> {escape(one.text)}'
        yield f"<small>{escape(where)}{since}</small></div>"


def _facts(snapshot: Snapshot) -> Iterator[str]:
    ratio = snapshot.goodput.ratio
    since = snapshot.ranks[0].seconds_since_step if snapshot.ranks else None
    rows = (
        ("loss", number(snapshot.loss)),
        ("samples/s", number(snapshot.samples_per_second)),
        ("step time", short(snapshot.step_seconds)),
        ("samples", whole(snapshot.samples)),
        ("goodput", UNKNOWN if ratio is None else f"{ratio:.1%}"),
        ("since last step", short(since)),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    yield f'<dl class="facts">{cells}</dl>'


def _loss(snapshot: Snapshot) -> Iterator[str]:
    if len(snapshot.losses) >= _LEAST_FOR_CURVE:
        yield charts.curve(snapshot.losses, {one.step for one in snapshot.checkpoints})


def _ranks(snapshot: Snapshot) -> Iterator[str]:
    if not snapshot.ranks:
        return
    yield charts.heat(snapshot.ranks, {one.rank for one in snapshot.verdicts})
    keys = "".join(
        f'<span><svg width="12" height="12"><rect class="{name}" width="12" height="12" rx="2"/>'
        f"</svg> {text}</span>"
        for name, text in _LEGEND
    )
    yield f'<p class="legend">own time of a step, divided by the median: {keys}</p>'
    omitted = len(snapshot.ranks) - charts.MAX_CELLS
    if omitted > 0:
        yield f'<p class="legend">not shown: {whole(omitted)} ranks that are not slow or behind</p>'
    rows = (
        (
            str(one.rank),
            one.phase or "not heard yet",
            whole(one.place.steps) if one.place else UNKNOWN,
            short(own_seconds(one)),
            short(one.seconds_since_step),
        )
        for one in by_interest(snapshot.ranks)[:_SHOWN_RANKS]
    )
    yield _table(("rank", "phase", "step", "own step time", "since step"), rows)


def _checkpoints(snapshot: Snapshot) -> Iterator[str]:
    rows = [
        (whole(one.step), one.tier, clock(one.time), short(one.seconds))
        for one in snapshot.checkpoints
    ]
    if rows:
        yield _table(("step", "tier", "complete at", "pause"), rows)


def _goodput(snapshot: Snapshot) -> Iterator[str]:
    goodput = snapshot.goodput
    if goodput.ratio is None or not goodput.productive_seconds:
        return
    wall = goodput.productive_seconds / goodput.ratio
    lost = [(camel(one.name), getattr(goodput.lost, one.name)) for one in fields(Lost)]
    known = [("productive", goodput.productive_seconds), *lost]
    parts = [(name, seconds) for name, seconds in known if seconds is not None]
    rest = max(0.0, wall - sum(seconds for _, seconds in parts))
    parts.append(("other", rest))
    scale = sum(seconds for _, seconds in parts)
    yield charts.bar([(name, seconds / scale) for name, seconds in parts], "goodput by cause")
    yield '<p class="legend">'
    for name, seconds in parts:
        yield '<span><svg width="12" height="12"><rect width="12" height="12" rx="2" '
        yield f'class="{name}"/></svg> {name} {duration(seconds)}</span>'
    yield "</p>"


def _metrics(snapshot: Snapshot) -> Iterator[str]:
    rows = [(name, number(value)) for name, value in snapshot.metrics.items()]
    if rows:
        yield _table(("name", "value"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
