"""What a run in a cluster has shown; pure."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from bench.goodput.cluster.faults import LIMIT, LONGEST
from bench.goodput.ledger import Entry, Kind
from bench.goodput.metrics import Figures
from bench.goodput.outages import Story
from bench.goodput.workloads import Workload


def together(entries: Iterable[Entry], ranks: int) -> Iterator[float]:
    """Yield when all ranks have done the same step.

    Args:
        entries: the entries of a ledger, in order.
        ranks: the number of ranks.
    """
    latest: dict[int, int] = {}
    for entry in entries:
        if entry.kind is Kind.STEP:
            latest[entry.rank] = entry.step
            if len(latest) == ranks and len(set(latest.values())) == 1:
                yield entry.ended


def recovered(times: Iterable[float], at: float) -> float | None:
    """Return the end of the longest time without a step after a fault; None if it has no end.

    A pod that is deleted trains on until it is asked to stop, so that is not the next step.

    Args:
        times: when all ranks have done the same step, in order.
        at: when the fault came.
    """
    every = list(times)
    before = max((one for one in every if one <= at), default=at)
    pairs = list(itertools.pairwise([before, *(one for one in every if one > at)]))
    return max(pairs, key=lambda pair: pair[1] - pair[0])[1] if pairs else None


def needs_a_person(story: Story, *, began: float, now: float) -> bool:
    """Whether a training has written nothing since a fault for too long, or done no step.

    Args:
        story: what has happened so far.
        began: when the training was created, by the monotonic clock.
        now: the time by the same clock.
    """
    since = max([began, *(hit.at for hit in story.hits)])
    written = max([since, *(one.ended for one in story.entries[-1:])])
    steps = (one.ended for one in reversed(story.entries) if one.kind is Kind.STEP)
    stepped = max(since, next(steps, since))
    return (bool(story.hits) and now > written + LIMIT) or now > stepped + LONGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run has shown.

    Attributes:
        is_done: whether it has ended by itself.
        recovery: the seconds from the fault until all ranks have done the same step again; None
            without a fault, or if it did not end.
        split: the parts of the time without a step, in seconds; empty if `recovery` is None.
        redone: the steps that were done again, by the mean of the ranks.
        lost: the samples that the weights lack; 0 if it did not end.
        repeated: the samples that the weights have too often.
        digest: the digest of the final weights; None if it did not end.
    """

    is_done: bool
    recovery: float | None
    split: Mapping[str, float]
    redone: float
    lost: int
    repeated: int
    digest: int | None

    @classmethod
    def of(cls, story: Story, workload: Workload) -> Self | None:
        """Return the verdict about a run; None if it never made a step.

        Args:
            story: what has happened.
            workload: what should be trained.
        """
        if not story.steps:
            return None
        work = workload.work
        figures = Figures.of(story, work, workload.step)
        is_done = len({one.rank for one in story.entries if one.kind is Kind.DONE}) == work.ranks
        end = None
        if is_done and story.hits:
            end = recovered(together(story.entries, work.ranks), story.hits[0].at)
        return cls(
            is_done=is_done,
            recovery=None if end is None else end - story.hits[0].at,
            split=figures.outages[0]["split"] if end is not None and figures.outages else {},
            redone=figures.redone,
            lost=figures.lost if is_done else 0,
            repeated=figures.repeated,
            digest=figures.digest if is_done else None,
        )
