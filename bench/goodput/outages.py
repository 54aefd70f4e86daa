"""What each fault has cost: how long nothing was trained, and on what that time was spent; pure."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.goodput.ledger import Entry, Kind
from bench.goodput.schedule import Fault, Strike

KILLS = (Fault.KILL, Fault.KILL_FIRST)


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that was injected.

    Attributes:
        at: when, by the monotonic clock.
        strike: the fault of the schedule.
        pid: the process that it hit.
    """

    at: float
    strike: Strike
    pid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a process of the training.

    Attributes:
        at: when, by the monotonic clock.
        pid: the process ID.
    """

    at: float
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The parts of the time in which nothing was trained, in seconds.

    Attributes:
        detect: until the system reacts: a process ends that was not killed by the fault, or starts.
            A rank that was asked to stop saves in this time.
        stop: until all processes of the old life have ended.
        start: until the new life has started and imported what it needs.
        join: until its ranks have joined each other.
        load: until its state is loaded.
        first: until its first step is done.
    """

    detect: float = 0.0
    stop: float = 0.0
    start: float = 0.0
    join: float = 0.0
    load: float = 0.0
    first: float = 0.0


PARTS = tuple(asdict(Split()))
_MARKS = {"start": Kind.IMPORTED, "join": Kind.JOINED, "load": Kind.LOADED}


@dataclass(frozen=True, slots=True)
class Outage:
    """The time after a fault in which nothing was trained.

    Attributes:
        hits: the fault, and those that came before the training went on.
        began: when the last step before it was done, or the fault if that came later.
        ended: when the first step after it was done.
        split: the parts of the time between.
        redone: the steps that were done again; they come after the outage.
    """

    hits: tuple[Hit, ...]
    began: float
    ended: float
    split: Split
    redone: int

    @property
    def seconds(self) -> float:
        """How long nothing was trained."""
        return self.ended - self.began

    @property
    def facts(self) -> Mapping[str, object]:
        """The outage, as JSON."""
        return {
            "fault": self.hits[0].strike.fault,
            "faults": len(self.hits),
            "seconds": self.seconds,
            "redone": self.redone,
            "split": asdict(self.split),
        }


@dataclass(frozen=True, slots=True)
class Story:
    """What has happened to a training.

    Attributes:
        entries: the entries of its ledger, in order.
        hits: the faults, in order.
        exits: the ends of its processes, in order.
        until: when it was given up; None if it has come to its end.
    """

    entries: Sequence[Entry]
    hits: Sequence[Hit]
    exits: Sequence[Exit]
    until: float | None = None

    @property
    def steps(self) -> list[Entry]:
        """The steps, in the order in which they were done."""
        steps = (entry for entry in self.entries if entry.kind is Kind.STEP)
        return sorted(steps, key=lambda entry: entry.ended)


def outages(story: Story, *, patience: float) -> list[Outage]:
    """Return the outage of each fault; faults during an outage belong to it.

    The outage is the longest time without a step from the fault until the next one.

    Args:
        story: what has happened.
        patience: how long a training without a step is not yet an outage, in seconds.
    """
    steps = story.steps
    found = []
    for hits, until in _grouped(story.hits, steps, patience):
        since = hits[0].at
        before = max((one.ended for one in steps if one.ended <= since), default=since)
        after = [one for one in steps if since < one.ended <= until]
        if not after:
            continue  # the training has ended
        gaps = itertools.pairwise([before, *(one.ended for one in after)])
        first = max(range(len(after)), key=[b - a for a, b in gaps].__getitem__)
        began = max(since, after[first - 1].ended if first else before)
        split = _split(story, began, after[first])
        high = max((one.step for one in steps if one.ended <= began), default=-1)
        again = {one.step for one in after[first:] if one.step <= high}
        found.append(Outage(hits, began, after[first].ended, split, len(again)))
    return found


def _grouped(
    hits: Sequence[Hit], steps: Sequence[Entry], patience: float
) -> Iterator[tuple[tuple[Hit, ...], float]]:
    """Yield faults that belong together, and the time of the next fault."""
    group: list[Hit] = []
    for hit in hits:
        if group and not _trains(steps, group[-1].at, hit.at, patience):
            group.append(hit)
            continue
        if group:
            yield tuple(group), hit.at
        group = [hit]
    if group:
        yield tuple(group), float("inf")


def _trains(steps: Iterable[Entry], since: float, now: float, patience: float) -> bool:
    """Whether a step was done shortly before `now`, and after `since`."""
    return any(max(since, now - patience) < one.ended <= now for one in steps)


def _split(story: Story, began: float, first: Entry) -> Split:
    """Return the parts of an outage that ends with a step."""
    ends = {"detect": _reaction(story, began, first), "stop": began}
    old = {one.pid for one in story.entries if one.ended <= began}
    marks = [one for one in story.entries if one.pid == first.pid and began < one.ended]
    marks = [one for one in marks if one.ended <= first.ended]
    born = max((one.ended for one in marks if one.kind is Kind.BORN), default=first.ended)
    gone = (one.at for one in story.exits if one.pid in old and began < one.at <= born)
    ends["stop"] = max(gone, default=began)
    for part, kind in _MARKS.items():
        ends[part] = max((one.ended for one in marks if one.kind is kind), default=began)
    ends["first"] = first.ended
    at, parts = began, {}
    for part in PARTS:
        now = min(max(at, ends[part]), first.ended)
        parts[part], at = now - at, now
    return Split(**parts)


def _reaction(story: Story, began: float, first: Entry) -> float:
    """Return when the system first reacts to a fault."""
    killed = {hit.pid for hit in story.hits if hit.strike.fault in KILLS}
    ends = [one.at for one in story.exits if one.pid not in killed]
    marks = [one.ended for one in story.entries if one.kind is not Kind.STEP]
    after = [at for at in (*ends, *marks) if began < at <= first.ended]
    return min(after, default=first.ended)
