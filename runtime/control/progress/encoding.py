"""Writes a snapshot as JSON; docs/progress.schema.json is its schema."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from runtime.control.progress.interest import by_interest
from runtime.control.progress.snapshot import RankProgress, Snapshot

MAX_BYTES: Final = 256 * 1024
MAX_LAST_BYTES: Final = 2 * 1024
_DIGITS = 6  # significant digits of a number that was measured
# What is left when the training has ended, in the termination message.
_LAST = (
    *("attempt", "life", "epoch", "epochs", "firstStep", "step", "totalSteps", "stepSeconds"),
    *("loss", "checkpoints", "goodput"),
)


def to_json(snapshot: Snapshot, limit: int = MAX_BYTES) -> bytes:
    """Return a snapshot as JSON of at most `limit` bytes.

    Ranks that do not fit are left out and counted. Those that are furthest behind and the slowest
    are kept (`by_interest`), in the order of their numbers.
    """
    made = _plain(replace(snapshot, ranks=(), metrics=dict(snapshot.metrics)))
    del made["ranks"]  # it comes last
    made |= {"checkpoint": _plain(snapshot.checkpoint), "worldSize": len(snapshot.ranks)}
    made |= {"ranksOmitted": len(snapshot.ranks), "ranks": []}
    kept = dict(_fitting(snapshot.ranks, limit - len(_dump(made))))
    made["ranksOmitted"] -= len(kept)
    return (
        _dump(made)[: -len("[]}")] + b"[" + b",".join(kept[rank] for rank in sorted(kept)) + b"]}"
    )


def last_words(snapshot: Snapshot) -> dict[str, Any]:
    """Return what is left of a snapshot when the training has ended.

    It has at most `MAX_LAST_BYTES` as JSON; the oldest failures that do not fit are left out.
    """
    made = _plain(replace(snapshot, ranks=(), losses=(), metrics={}))
    words = {name: made[name] for name in _LAST}
    room = MAX_LAST_BYTES - len(_dump(words | {"failures": []}))
    sizes = itertools.accumulate(len(_dump(one)) + len(",") for one in made["failures"])
    fitting = zip(made["failures"], sizes, strict=True)
    return words | {"failures": [one for one, size in fitting if size <= room]}


def _fitting(ranks: tuple[RankProgress, ...], room: int) -> Iterator[tuple[int, bytes]]:
    """Yield the ranks whose JSON fits into a number of bytes, the most interesting ones first."""
    for rank in by_interest(ranks):
        text = _dump(_plain(rank))
        room -= len(text) + len(",")
        if room < 0:
            return
        yield rank.rank, text


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: camelCase names, times in UTC, NaN and infinity as texts."""
    kind: Any = type(value)
    if kind in _FORMS:
        return _FORMS[kind](value)
    names = _names(kind)
    return {key: _plain(getattr(value, name)) for name, key in names} if names else value


@cache
def _names(kind: type) -> tuple[tuple[str, str], ...]:
    """Return the names of the fields of a dataclass, and their names in JSON."""
    return tuple((one.name, camel(one.name)) for one in fields(kind)) if is_dataclass(kind) else ()


def camel(name: str) -> str:
    """Return a name as the API of Kubernetes writes it.

    >>> camel("samples_per_second")
    'samplesPerSecond'
    """
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(f"{value:.{_DIGITS}g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def format_time(value: datetime) -> str:
    """Return a time in UTC, as Kubernetes writes it."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_FORMS: dict[type, Callable[[Any], Any]] = {
    float: _number,
    datetime: format_time,
    tuple: lambda several: [_plain(one) for one in several],
    dict: lambda pairs: {name: _plain(one) for name, one in pairs.items()},
}
