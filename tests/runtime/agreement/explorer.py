"""Every state that a job can reach, nearest first, and what must hold in each.

Of states that differ in the order of ranks that are alike one is explored: the others behave alike.
"""

import gc
from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.runtime.agreement.cases import Case
from tests.runtime.agreement.properties import Properties
from tests.runtime.agreement.rules import RULES, Rules
from tests.runtime.agreement.world import State, World


@dataclass(frozen=True)
class Found:
    """What an exploration has shown.

    Attributes:
        states: how many states there are, or were seen.
        wrong: what does not hold; empty if all holds.
        trace: the steps to where it does not hold, one of the shortest ways; ranks that are alike
            may be exchanged between two steps.
        ends: how many final states there are, by how the ranks have ended.
    """

    states: int
    wrong: str = ""
    trace: tuple[str, ...] = ()
    ends: Counter[str] = field(default_factory=Counter)


class Explorer:
    """One exploration."""

    def __init__(self, case: Case, rules: Rules, *, only_ends: bool) -> None:
        self.only_ends = only_ends
        self.world = World(case, rules)
        self.properties = Properties(self.world)
        self.states: list[State] = [self.world.canonical(self.world.first())]
        self.numbers: dict[State, int] = {self.states[0]: 0}
        self.parents = array("i", [-1])
        self.sources, self.targets = array("i"), array("i")
        self.final: list[int] = []

    def run(self, most: int) -> Found:
        """Explore up to a number of states."""
        for number, state in enumerate(self.states):  # which grows
            if wrong := self._visit(number, state):
                return self._found(wrong, number)
            if len(self.states) > most:
                return self._found(f"there are more than {most} states", number)
        if endless := self._endless():
            return self._found("no end can be reached", endless[0])
        return self._found("", 0)

    def _visit(self, number: int, state: State) -> str:
        wrong = "" if self.only_ends else self.properties.wrong_state(state)
        if wrong:
            return wrong
        steps = self.world.steps(state)
        if not steps:
            self.final.append(number)
            return self.properties.wrong_end(state)
        for _, after in steps:
            if not self.only_ends:
                wrong = wrong or self.properties.wrong_step(state, after)
            known = self.world.canonical(after)
            target = self.numbers.setdefault(known, len(self.states))
            if target == len(self.states):
                self.states.append(known)
                self.parents.append(number)
            self.sources.append(number)
            self.targets.append(target)
        return wrong

    def _endless(self) -> list[int]:
        """The states from which no final state can be reached."""
        can = np.zeros(len(self.states), dtype=bool)
        can[self.final] = True
        sources, targets = np.asarray(self.sources), np.asarray(self.targets)
        while (new := sources[can[targets] & ~can[sources]]).size:
            can[new] = True
        return [int(number) for number in np.flatnonzero(~can)]

    def _found(self, wrong: str, number: int) -> Found:
        ends = Counter(
            " + ".join(sorted({one.mode for one in self.world.ranks_of(self.states[final])}))
            for final in self.final
        )
        return Found(len(self.states), wrong, self._trace(number) if wrong else (), ends)

    def _trace(self, number: int) -> tuple[str, ...]:
        labels: list[str] = []
        while (parent := self.parents[number]) >= 0:
            steps = self.world.steps(self.states[parent])
            found = self.states[number]
            labels.append(next(label for label, one in steps if self.world.canonical(one) == found))
            number = parent
        return tuple(reversed(labels))


def explore(
    case: Case, rules: Rules = RULES, *, most: int = 3_000_000, only_ends: bool = False
) -> Found:
    """Explore a job; ends where something does not hold.

    Args:
        case: the job.
        rules: the protocol.
        most: the number of states after which it is given up.
        only_ends: look only at whether all processes come to an end.
    """
    gc.disable()  # there are no cycles, and it would look at each state again and again
    try:
        return Explorer(case, rules, only_ends=only_ends).run(most)
    finally:
        gc.enable()
