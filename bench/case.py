"""What a line of the benchmark is: whose programs run, at which sizes, and what is asked of it."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Size = Mapping[str, Any]  # what a cost depends on, as `samples`, `world`, `position`
Samples = Sequence[float]  # what was measured, round by round
COLUMNS = ("theirs", "ours", "floor")


class Program(Protocol):
    """What a worker runs for one side of a case, in each of its processes."""

    def answer(self) -> Any:
        """What it computes, as JSON: equal on both sides, or no ratio is shown. None: nothing."""
        ...

    def sample(self) -> float:
        """One measurement, in the case's unit."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """Whose program runs, and with which options besides the size's."""

    library: str  # runtime, accelerate, or torch for what needs neither
    options: Mapping[str, Any] = field(default_factory=dict)
    computes_less: bool = False  # its answer is another one: a floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is asked of a case at one of its sizes; the source is the design's table `Fast`.

    Raises:
        ValueError: the kind is unknown.
    """

    kind: str  # of KINDS
    limit: float
    at: Size

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS:
            sentence = f"a goal's kind must be of {', '.join(KINDS)}, got {self.kind!r}"
            raise ValueError(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of the benchmark.

    Raises:
        ValueError: the goal is for a size that is not measured.
    """

    name: str
    theme: str
    what: str  # one phrase for the page
    program: Callable[..., Program]  # takes `library`, the size and the side's options
    unit: str  # of quantity.UNITS
    sizes: Sequence[Size]  # of a full run
    quick: Sequence[Size]  # of a quick one, and of the tests
    ours: Side = Side("runtime")
    theirs: Side | None = Side("accelerate")
    floor: Side | None = Side("torch")
    floor_is: str = ""  # what the floor does
    goal: Goal | None = None
    fresh: bool = False  # each sample in a process of its own: for memory, and for first times

    def __post_init__(self) -> None:
        """Check the goal."""
        if self.goal is not None and self.goal.at not in self.sizes:
            sentence = f"{self.name}: the goal is for {self.goal.at}, which is not measured"
            raise ValueError(sentence)

    @property
    def sides(self) -> dict[str, Side]:
        """Column -> whose program."""
        sides = {"theirs": self.theirs, "ours": self.ours, "floor": self.floor}
        return {column: side for column, side in sides.items() if side is not None}


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured for a case at one size: column -> samples, all of the same rounds."""

    case: str
    size: Size
    samples: Mapping[str, Samples]
    elsewhere: str = ""  # the place of the run, if the page's other results are of another place

    def median(self, column: str) -> float:
        """Of a column; nan if it was not measured."""
        return statistics.median(self.samples.get(column) or [math.nan])

    def ratios(self, over: str, under: str) -> list[float]:
        """Round by round: how many times more one column is than another."""
        pairs = zip(self.samples.get(over, ()), self.samples.get(under, ()), strict=False)
        return [a / b if b else math.inf for a, b in pairs]

    @property
    def is_steady(self) -> bool:
        """Whether the ratio to Accelerate is the same in all rounds, within a factor of two."""
        ratios = self.ratios("theirs", "ours")
        return not ratios or max(ratios) <= 2 * min(ratios)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of goal."""

    value: Callable[[Result], float]
    at_least: bool  # else at most
    text: str  # how its limit or its value is said


def _ratio(over: str, under: str) -> Callable[[Result], float]:
    return lambda result: statistics.median(result.ratios(over, under) or [math.nan])


KINDS = {
    "faster": Kind(_ratio("theirs", "ours"), at_least=True, text="{} x"),
    "of floor": Kind(_ratio("ours", "floor"), at_least=False, text="{} x floor"),
    "above floor": Kind(
        lambda result: result.median("ours") - result.median("floor"),
        at_least=False,
        text="floor + {}",
    ),
    "in all": Kind(lambda result: result.median("ours"), at_least=False, text="{}"),
}


def reached(goal: Goal, result: Result) -> bool:
    """Whether a goal is reached."""
    kind = KINDS[goal.kind]
    value = kind.value(result)
    return value >= goal.limit if kind.at_least else value <= goal.limit
