"""Measures a case: checks that all sides compute the same result, then measures them in turns."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from bench.case import Case, Result, Side, Size
from bench.quantity import size_text
from bench.world import World

SECONDS = 12.0  # no further round of a size starts after this time
Report = Callable[[str], None]


class Different(AssertionError):
    """Two sides compute different results, so their times are not comparable."""


class Measurer:
    """Measures cases of a theme, which share processes; a context manager."""

    def __init__(self, rounds: int, report: Report) -> None:
        """Args: rounds: the maximum number of rounds; report: called for each size."""
        self._rounds = rounds
        self._report = report
        self._worlds: dict[tuple[str, str, int | None], World] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def restart(self) -> None:
        """End all processes, after a failure; the next case starts new ones."""
        self._open.close()
        self._worlds.clear()

    def measure(self, case: Case, size: Size) -> Result:
        """Measure a case at one of its sizes.

        Raises:
            Different: two sides compute different results.
        """
        self._report(f"{case.name}: {size_text(size) or 'one size'}")
        if case.fresh:
            return Result(case.name, size, _in_fresh_worlds(case, size, self._rounds))
        worlds = {column: self._world(column, side, size) for column, side in case.sides.items()}
        return Result(case.name, size, _taking_turns(case, size, worlds, self._rounds))

    def _world(self, column: str, side: Side, size: Size) -> World:
        key = column, side.library, size.get("processes")
        if key not in self._worlds:
            self._worlds[key] = self._open.enter_context(World(size.get("processes")))
        return self._worlds[key]


def _prepare(case: Case, side: Side, size: Size, world: World) -> None:
    options = {"library": side.library, **size, **side.options}
    world.ask("prepare", case.program.__module__, case.program.__qualname__, options)


def _taking_turns(
    case: Case, size: Size, worlds: Mapping[str, World], rounds: int
) -> dict[str, list[float]]:
    for column, side in case.sides.items():
        _prepare(case, side, size, worlds[column])
    check(case, size, {column: world.ask("answer") for column, world in worlds.items()})
    samples: dict[str, list[float]] = {column: [] for column in worlds}
    for turn in turns(list(worlds), rounds):
        for column in turn:
            samples[column].append(_slowest(worlds[column]))
    for world in worlds.values():  # free the memory for the next case
        world.ask("forget")
    return samples


def _slowest(world: World) -> float:
    """Return one measurement, of the slowest process, rounded to four digits."""
    return float(f"{max(world.ask('sample')):.4g}")


def _in_fresh_worlds(case: Case, size: Size, rounds: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {column: [] for column in case.sides}
    for turn in turns(list(case.sides), rounds):
        answers = {}
        for column in turn:
            with World(size.get("processes")) as world:
                _prepare(case, case.sides[column], size, world)
                samples[column].append(_slowest(world))
                answers[column] = world.ask("answer")
        check(case, size, answers)
    return samples


def turns(columns: list[str], rounds: int) -> Iterator[list[str]]:
    """Yield the order of the columns in each round, which alternates, until the time is over."""
    began = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - began > SECONDS:
            return
        yield columns if number % 2 == 0 else columns[::-1]


def check(case: Case, size: Size, answers: Mapping[str, Any]) -> None:
    """Compare the results of the sides, except for sides that compute less or return None.

    Raises:
        Different: two results differ, or there is no result.
    """
    known = [
        column
        for column, side in case.sides.items()
        if not side.computes_less and any(answer is not None for answer in answers[column])
    ]
    if not known:
        raise Different(f"{case.name} at {size_text(size)}: no side returns a result")
    for one, other in itertools.pairwise(known):
        if answers[one] != answers[other]:
            sentence = (
                f"{case.name} at {size_text(size)}: {one} and {other} must compute the same, got "
                f"{str(answers[one])[:300]} and {str(answers[other])[:300]}"
            )
            raise Different(sentence)
