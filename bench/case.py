"""A case of the benchmark: its programs, its sizes, its goal, and its results."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Size = Mapping[str, Any]  # parameters of a case, such as `samples`, `world`, `position`
Samples = Sequence[float]  # one measurement per round
COLUMNS = ("theirs", "ours", "floor")


class Program(Protocol):
    """The program that each process of one side of a case runs."""

    def answer(self) -> Any:
        """Return the result as JSON, which must be equal on all sides; None if there is none."""
        ...

    def sample(self) -> float:
        """Return one measurement, in the unit of the case."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a case: the library that is measured, and its options.

    Attributes:
        library: `runtime`, `accelerate`, or `torch` for a program that uses neither.
        options: arguments of the program, in addition to the size.
        computes_less: whether the result may differ, because a floor computes less.
    """

    library: str
    options: Mapping[str, Any] = field(default_factory=dict)
    computes_less: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The goal of a case at one of its sizes, from the table `Fast` of the design.

    Attributes:
        kind: a key of KINDS.
        limit: the limit for the value of that kind.
        at: the size.

    Raises:
        ValueError: the kind is unknown.
    """

    kind: str
    limit: float
    at: Size

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in KINDS:
            sentence = f"a goal's kind must be one of {', '.join(KINDS)}, got {self.kind!r}"
            raise ValueError(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case of the benchmark: one operation, measured for several libraries.

    Attributes:
        name: the name of the case.
        theme: the group of cases that it belongs to.
        what: a title for the page.
        program: makes the program; called with `library`, the size and the options of the side.
        unit: the unit of the measurements, a unit of `bench.quantity`.
        sizes: the sizes of a full run.
        quick: the sizes of a quick run and of the tests.
        ours: this runtime.
        theirs: Accelerate; None if it is not measured.
        floor: a program with the lowest possible cost; None if there is none.
        floor_is: a description of the floor.
        goal: the goal; None if there is none.
        fresh: whether each measurement has a new process, for memory and for first calls.

    Raises:
        ValueError: the goal is for a size that is not measured.
    """

    name: str
    theme: str
    what: str
    program: Callable[..., Program]
    unit: str
    sizes: Sequence[Size]
    quick: Sequence[Size]
    ours: Side = Side("runtime")
    theirs: Side | None = Side("accelerate")
    floor: Side | None = Side("torch")
    floor_is: str = ""
    goal: Goal | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        """Check the goal."""
        if self.goal is not None and self.goal.at not in self.sizes:
            sentence = f"{self.name}: the goal is for {self.goal.at}, which is not measured"
            raise ValueError(sentence)

    @property
    def sides(self) -> dict[str, Side]:
        """The measured sides by column."""
        sides = {"theirs": self.theirs, "ours": self.ours, "floor": self.floor}
        return {column: side for column, side in sides.items() if side is not None}


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of a case at one size.

    Attributes:
        case: the name of the case.
        size: the size.
        samples: the measurements by column; all columns have the same rounds.
        elsewhere: the machine and the libraries, if they differ from those of the page.
    """

    case: str
    size: Size
    samples: Mapping[str, Samples]
    elsewhere: str = ""

    def median(self, column: str) -> float:
        """Return the median of a column; nan if it was not measured."""
        return statistics.median(self.samples.get(column) or [math.nan])

    def ratios(self, over: str, under: str) -> list[float]:
        """Return the ratio of two columns in each round."""
        pairs = zip(self.samples.get(over, ()), self.samples.get(under, ()), strict=False)
        return [a / b if b else math.inf for a, b in pairs]

    @property
    def is_steady(self) -> bool:
        """Whether the ratio to Accelerate is the same in all rounds, within a factor of two."""
        ratios = self.ratios("theirs", "ours")
        return not ratios or max(ratios) <= 2 * min(ratios)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of goal.

    Attributes:
        value: computes the value to compare with the limit.
        at_least: whether the limit is a minimum, rather than a maximum.
        text: the format of the limit and of the value.
    """

    value: Callable[[Result], float]
    at_least: bool
    text: str


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
    """Whether a result reaches a goal."""
    kind = KINDS[goal.kind]
    value = kind.value(result)
    return value >= goal.limit if kind.at_least else value <= goal.limit
