"""The figures of a training with faults, and of several of them; pure."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.goodput.ledger import Entry, Kind
from bench.goodput.lineage import Lineage, Misses
from bench.goodput.outages import PARTS, Story, outages
from bench.goodput.schedule import SLOW, Fault, Strike
from bench.goodput.workloads import Work

PATIENCE = 5  # reference steps without a step that are not yet an outage
SPENT = ("kept", "slower", "redone", *PARTS)  # what the time of a training goes to


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one training.

    Attributes:
        seconds: from the begin of the first step until the last one, or until it was given up.
        step_seconds: the median time of a kept step.
        reference: the time of a step of the raw loop, just before the training and after it.
        goodput: the time that the raw loop takes for the kept samples, by `seconds`.
        ettr: the part of `seconds` in which kept steps were done, whatever their speed.
        spent: the seconds by what they went to: a key of `SPENT`.
        redone: the steps that were done again, by the mean of the ranks.
        lost: the samples that the weights lack, in sum over the epochs; 0 if the training did not
            end, since the others would have followed.
        repeated: the samples that the weights have too often, in sum.
        outages: the outage of each fault, as JSON.
        digest: the digest of the final weights; None if the training did not end.
    """

    seconds: float
    step_seconds: float
    reference: float
    goodput: float
    ettr: float
    spent: Mapping[str, float]
    redone: float
    lost: int
    repeated: int
    outages: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    digest: int | None = None

    @classmethod
    def of(cls, story: Story, work: Work, reference: float | None) -> "Figures":
        """Return the figures of a training.

        Args:
            story: what has happened.
            work: what should be trained.
            reference: the seconds of a step of the raw loop without faults; None in that loop.

        Raises:
            ValueError: there is no step.
        """
        steps = story.steps
        if not steps:
            raise ValueError("a training must have at least one step, got none")
        lineage = Lineage.of(story.entries)
        done = max(
            (one for one in story.entries if one.kind is Kind.DONE), key=_ended, default=None
        )
        end = max(one.ended for one in steps) if story.until is None else story.until
        seconds = end - min(one.began for one in steps)
        step = statistics.median(one.ended - one.began for one in lineage.kept)
        count = len(lineage.samples) and lineage.samples.total() / (work.ranks * work.batch)
        reference = seconds / count if reference is None else reference
        found = outages(story, patience=PATIENCE * reference)
        parts = {part: sum(getattr(one.split, part) for one in found) for part in PARTS}
        parts["first"] -= sum(min(one.split.first, reference) for one in found)  # they are kept
        down = sum(parts.values())
        redone = _seconds_of(lineage.undone, found) / work.ranks
        kept = min(count * reference, seconds)
        slower = max(0.0, seconds - down - redone - kept)
        misses = Misses.of(lineage.samples, samples=work.samples, epochs=work.epochs)
        return cls(
            seconds=seconds,
            step_seconds=step,
            reference=reference,
            goodput=kept / seconds,
            ettr=max(0.0, (seconds - down - redone) / seconds),
            spent={"kept": kept, "slower": slower, "redone": redone, **parts},
            redone=len(lineage.undone) / work.ranks,
            lost=0 if done is None else misses.lost,
            repeated=misses.repeated,
            outages=[one.facts for one in found],
            digest=None if done is None else done.value,
        )


def _ended(entry: Entry) -> float:
    return entry.ended


def _seconds_of(steps: Iterable[Entry], found: Sequence[Any]) -> float:
    """Return the time of steps, without the outages that lie in them."""
    total = 0.0
    for step in steps:
        within = (
            min(step.ended, one.ended) - max(step.began, one.began)
            for one in found
            if one.began < step.ended and step.began < one.ended
        )
        total += max(0.0, step.ended - step.began - sum(within))
    return total


def oracle(strikes: Sequence[Strike], *, seconds: float, restart: float) -> float:
    """Return how long a training takes that redoes no step, and knows of each fault at once.

    Args:
        strikes: the faults.
        seconds: the time without faults.
        restart: the seconds of a restart. A restart that is hit begins again. A straggler costs the
            half of the time for which it is slow.
    """
    at, left = 0.0, seconds
    for strike in strikes:
        if at + left <= strike.at:
            break
        left -= max(0.0, strike.at - at)
        at = strike.at + (SLOW / 2 if strike.fault is Fault.STRAGGLE else restart)
    return at + left


def quantile(values: Sequence[float], part: float) -> float:
    """Return a quantile, the nearest of the values; nan if there are none.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([3.0, 1.0, 2.0], 0.95)
    (2.0, 3.0)
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
