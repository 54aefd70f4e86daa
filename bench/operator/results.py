"""The results, and whether they reach the goals."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.case import Size
from bench.machine import Run
from bench.operator.lines import Goal
from bench.operator.measures import Facts


@dataclass(frozen=True, slots=True)
class Made:
    """How results were measured.

    Attributes:
        run: the machine and the command.
        versions: the versions of the measured programs.
        seconds: the duration of the run.
    """

    run: Run
    versions: Mapping[str, str]
    seconds: float

    @property
    def place(self) -> str:
        """The machine and the programs; only results with the same place are comparable."""
        programs = (
            f"{name.replace('_', '-')} {version}" for name, version in self.versions.items()
        )
        return ", ".join([self.run.place, *programs])


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of a way in a case.

    Attributes:
        line: the name of the case.
        way: the name of the way.
        size: the size.
        facts: the measured values of each turn.
        elsewhere: the place of the run, if it differs from that of the page.
    """

    line: str
    way: str
    size: Size
    facts: list[Facts]
    elsewhere: str = ""

    def values(self, fact: str) -> list[float]:
        """Return the values of a fact, one per turn."""
        return [found[fact] for found in self.facts if fact in found]

    def median(self, fact: str) -> float:
        """Return the median of a fact; nan if it was not measured."""
        return statistics.median(self.values(fact) or [math.nan])


def of(results: Sequence[Result], line: str, way: str) -> Result:
    """Return the result of a way in a case; an empty one if it was not measured."""
    found = [one for one in results if (one.line, one.way) == (line, way)]
    return [Result(line, way, {}, []), *found][-1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the results reach a goal.

    Attributes:
        goal: the goal.
        here: the median of the operator.
        peer: the median of the peer; nan without a peer.
    """

    goal: Goal
    here: float
    peer: float

    @classmethod
    def on(cls, goal: Goal, results: Sequence[Result]) -> "Verdict":
        """Compare the medians of the turns with a goal."""
        here = of(results, goal.line, "operator").median(goal.fact)
        peer = of(results, goal.line, goal.peer or "").median(goal.fact)
        return cls(goal, here, peer)

    @property
    def found(self) -> float:
        """The value to compare with the limit; nan if it was not measured."""
        return self.here / self.peer if self.goal.peer else self.here

    @property
    def is_reached(self) -> bool:
        """Whether the goal is reached."""
        limit = self.goal.limit
        return self.found >= limit if self.goal.peer else self.found <= limit
