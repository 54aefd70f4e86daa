"""Bounds of what ranks say: it comes over a socket, and anything that connects may say it."""

import math
from collections.abc import Mapping
from dataclasses import replace

from runtime.control.beat import Beat
from runtime.control.lines import LARGEST
from runtime.control.place import Place

MAX_COUNT = LARGEST
MAX_SECONDS = 1e9  # 32 years
MAX_METRICS = 32
MAX_NAME = 64  # characters of a metric's name
MAX_TEXT = 500  # characters of a sentence


def count(value: int) -> int:
    """Return a count, at most MAX_COUNT."""
    return min(value, MAX_COUNT)


def seconds(value: float | None) -> float | None:
    """Return a duration, at most MAX_SECONDS; None stays None."""
    return None if value is None else min(float(value), MAX_SECONDS)


def number(value: float) -> float:
    """Return a number as a float; a whole number that is too large becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return a text in one line of at most `limit` characters that can be encoded and printed.

    >>> plain("a\x1b[2J\nb\ud800")
    'a?[2J b?'
    """
    line = " ".join(text[: 4 * limit].split())[:limit]
    return "".join(one if one.isprintable() else "?" for one in line)


def check_count(name: str, value: int | None) -> None:
    """Check a count.

    Raises:
        ValueError: it is negative, or larger than MAX_COUNT.
    """
    if value is not None and not 0 <= value <= MAX_COUNT:
        sentence = f"{name} must be a whole number in [0, {MAX_COUNT}], got {value}"
        raise ValueError(sentence)


def check_number(name: str, value: float | None) -> None:
    """Check a duration, a rate or another number that is not negative.

    Raises:
        ValueError: it is negative or not finite.
    """
    if value is not None and not (math.isfinite(value) and value >= 0):
        sentence = f"{name} must be a finite number of at least 0, got {value}"
        raise ValueError(sentence)


def bounded(beat: Beat, *, with_metrics: bool = True) -> Beat:
    """Return a beat whose numbers and texts have a bounded size; a loss may still be NaN.

    Args:
        beat: what a rank says.
        with_metrics: whether to keep the metrics.
    """
    if _is_bounded(beat):  # what most ranks say, once a second
        return beat
    return replace(
        beat,
        place=Place(steps=count(beat.place.steps), epochs=count(beat.place.epochs)),
        phase_seconds=min(beat.phase_seconds, MAX_SECONDS),
        ticks=count(beat.ticks),
        samples=count(beat.samples),
        step_seconds=seconds(beat.step_seconds),
        own_seconds=seconds(beat.own_seconds),
        loss=None if beat.loss is None else number(beat.loss),
        metrics=_metrics(beat.metrics) if with_metrics else {},
    )


def _is_bounded(beat: Beat) -> bool:
    counts = (beat.place.steps, beat.place.epochs, beat.ticks, beat.samples)
    durations = (beat.phase_seconds, beat.step_seconds or 0, beat.own_seconds or 0)
    if beat.metrics or isinstance(beat.loss, int):
        return False
    return max(counts) <= MAX_COUNT and max(durations) <= MAX_SECONDS


def _metrics(given: Mapping[str, float]) -> dict[str, float]:
    first = list(given.items())[:MAX_METRICS]
    return {plain(name, MAX_NAME): number(value) for name, value in first}
