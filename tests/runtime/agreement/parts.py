"""What each part of a job may do, computed once and looked up by numbers."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

from runtime.control.agreement.coordinator import Coordinator, Sent
from runtime.control.agreement.coordinator import Step as ChiefStep
from runtime.control.agreement.timers import Wait
from tests.runtime.agreement.cases import Case, Fault
from tests.runtime.agreement.ranks import Mode, Move, Program, Rank
from tests.runtime.agreement.rules import Rules
from tests.runtime.agreement.tables import End, Queues, Table

FAULTS = {Wait.HOLD: Fault.HOLD, Wait.OUTCOME: Fault.LOSS}

RANKS = ("own", "joins", "fails", "dies", "wants", "hears", "cut", "links", "timer", "expires")
COMPUTED_ONCE = (*RANKS, "asks", "times_out", "meets", "receives", "ordered")


class Known(NamedTuple):
    """A move of a rank, in numbers."""

    label: str
    after: int  # the rank
    said: int  # a queue


class Told(NamedTuple):
    """A step of the coordinator, in numbers."""

    after: int  # the coordinator
    sent: tuple[tuple[int, int], ...]  # ranks, and a queue for each


class Parts:
    """The parts of a job; each method has a number for a state and returns the numbers after it."""

    def __init__(self, case: Case, rules: Rules) -> None:
        self.case, self.rules = case, rules
        self.programs = [Program(ops, rules, is_short=case.is_short) for ops in case.scripts]
        self.ranks: Table[Rank] = Table()
        self.chiefs: Table[Coordinator | None] = Table()
        self.queues = Queues()
        for name in COMPUTED_ONCE:  # for each of these objects, so that it ends with them
            setattr(self, name, cache(getattr(self, name)))

    def _known(self, i: int, move: Move) -> Known:
        after = self.ranks.number(move.after)
        return Known(f"{i} {move.label}", after, self.queues.of(*move.said))

    # Ranks.

    def own(self, i: int, rank: int) -> tuple[Known, ...]:
        """What a rank may do at any moment, without the others."""
        moves = self.programs[i].moves(self.ranks.values[rank])
        return tuple(self._known(i, move) for move in moves)

    def joins(self, i: int, rank: int) -> Known:
        """A rank's collective, or save, is complete."""
        program, value = self.programs[i], self.ranks.values[rank]
        done = program.acted if value.mode is Mode.ACT else program.through
        return self._known(i, done(value))

    def fails(self, i: int, rank: int) -> Known:
        """A rank's collective, or save, cannot be completed."""
        value = self.ranks.values[rank]
        label = "fails: a peer is gone"
        return self._known(i, self.programs[i].ended(label, value, Mode.FAILED))

    def dies(self, i: int, rank: int) -> Known:
        """The process is killed: it says nothing."""
        return self._known(i, Move("DIES", self.ranks.values[rank]._replace(mode=Mode.DEAD)))

    def wants(self, i: int, rank: int, wish: int) -> Known:
        """A rank wants something."""
        _, action = self.case.wishes[wish]
        return self._known(i, self.programs[i].wished(self.ranks.values[rank], action))

    def hears(self, i: int, rank: int, queue: int) -> tuple[Known, int]:
        """A rank takes what is next of a queue; also the rest of the queue."""
        program, value = self.programs[i], self.ranks.values[rank]
        item, rest = self.queues.split(queue)
        move = program.unlinked(value) if isinstance(item, End) else program.heard(value, item)
        return self._known(i, move), rest

    def cut(self, i: int, rank: int) -> Known:
        """A rank's link is cut, which it does not see yet."""
        after = self.ranks.values[rank]._replace(is_linked=False)
        return self._known(i, Move("'s link is CUT", after))

    def links(self, i: int, rank: int) -> Known:
        """A rank has a new connection."""
        return self._known(i, self.programs[i].linked(self.ranks.values[rank]))

    def timer(self, rank: int) -> Fault | None:
        """What it is that a rank's timer goes off, if one runs."""
        timer = self.ranks.values[rank].member.timer
        return FAULTS[timer.wait] if timer else None

    def expires(self, i: int, rank: int) -> Known:
        """A rank's timer goes off."""
        return self._known(i, self.programs[i].expired(self.ranks.values[rank]))

    # The coordinator.

    def _told(self, step: ChiefStep) -> Told:
        after, sent = step
        return Told(self.chiefs.number(after), self._sent(sent))

    def _sent(self, sent: Sent) -> tuple[tuple[int, int], ...]:
        return tuple((rank, self.queues.of(message)) for rank, message in sent)

    def chief(self, number: int) -> Coordinator:
        """The coordinator of a number, which is alive."""
        chief = self.chiefs.values[number]
        assert chief is not None
        return chief

    def asks(self, number: int) -> Told | None:
        """It begins a round, if it may."""
        chief = self.chief(number)
        if not chief.may_ask or chief.round >= self.case.rounds:
            return None
        return self._told(self.rules.chief_ask(chief))

    def times_out(self, number: int) -> Told | None:
        """Its timer goes off, if one runs."""
        chief = self.chief(number)
        return self._told(self.rules.chief_expire(chief, chief.timer)) if chief.timer else None

    def ordered(self, number: int, order: tuple[int, ...]) -> int:
        """The coordinator, if its ranks had another order."""
        if (chief := self.chiefs.values[number]) is None:
            return number

        def moved(ranks: frozenset[int]) -> frozenset[int]:
            return frozenset(i for i, rank in enumerate(order) if rank in ranks)

        connected, ended, awaited = map(moved, (chief.connected, chief.ended, chief.awaited))
        after = replace(chief, connected=connected, ended=ended, awaited=awaited)
        return self.chiefs.number(after)

    def meets(self, number: int, i: int) -> Told:
        """A rank has a new connection."""
        return self._told(self.rules.chief_connect(self.chief(number), i))

    def receives(self, number: int, i: int, queue: int) -> tuple[str, int, frozenset[Told]]:
        """What it hears of a rank, the rest of the queue, and what may come of it.

        It may find that there is time, or not, if that is short.
        """
        chief, (item, rest) = self.chief(number), self.queues.split(queue)
        label = f"coordinator hears {item} of {i}"
        if isinstance(item, End):
            return label, rest, frozenset({self._told(self.rules.chief_disconnect(chief, i))})
        receive, case = self.rules.chief_receive, self.case
        times = (True, False) if case.is_short else (True,)
        steps = (receive(chief, i, item, has_time_to_save=has_time) for has_time in times)
        return label, rest, frozenset(self._told(step) for step in steps)
