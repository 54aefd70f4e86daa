"""What was measured, and whether it is enough."""

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
    """How results were made: the run, whose programs were measured, and how long it took."""

    run: Run
    versions: Mapping[str, str]
    seconds: float

    @property
    def place(self) -> str:
        """The machine and the programs: results of one place can be compared."""
        programs = (
            f"{name.replace('_', '-')} {version}" for name, version in self.versions.items()
        )
        return ", ".join([self.run.place, *programs])


@dataclass(frozen=True, slots=True)
class Result:
    """What was found of one way on a line, turn by turn."""

    line: str
    way: str
    size: Size
    facts: list[Facts]
    elsewhere: str = ""  # the place of the run, if the page's other results are of another place

    def values(self, fact: str) -> list[float]:
        """A fact, turn by turn."""
        return [found[fact] for found in self.facts if fact in found]

    def median(self, fact: str) -> float:
        """Of a fact; nan if it was not found."""
        return statistics.median(self.values(fact) or [math.nan])


def of(results: Sequence[Result], line: str, way: str) -> Result:
    """What was found of a way on a line; empty, if nothing was."""
    found = [one for one in results if (one.line, one.way) == (line, way)]
    return [Result(line, way, {}, []), *found][-1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, judged."""

    goal: Goal
    here: float
    peer: float  # nan without one

    @classmethod
    def on(cls, goal: Goal, results: Sequence[Result]) -> "Verdict":
        """Judge a goal by the medians of the turns."""
        here = of(results, goal.line, "operator").median(goal.fact)
        peer = of(results, goal.line, goal.peer or "").median(goal.fact)
        return cls(goal, here, peer)

    @property
    def found(self) -> float:
        """What is held against the limit; nan if it was not measured."""
        return self.here / self.peer if self.goal.peer else self.here

    @property
    def is_reached(self) -> bool:
        """Whether it is enough."""
        limit = self.goal.limit
        return self.found >= limit if self.goal.peer else self.found <= limit
