"""One rank of an exploration: what its main thread and its control thread may do next."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from runtime.control.agreement.member import Member, Order, Said
from runtime.control.agreement.messages import Action, Message, Wish
from runtime.control.place import Place
from tests.runtime.agreement.rules import Rules
from tests.runtime.agreement.scripts import Boundary, Collective, Ops


class Mode(StrEnum):
    """Where a rank's main thread is; the last four are its end."""

    RUN = "runs"  # the operation comes next, or is under way
    TEST = "tests"  # it has written its place
    WRITE = "writes"  # it has tested, and not written its place (in the wrong order only)
    WAIT = "waits"
    ACT = "acts"
    STOPPED = "stopped"
    ENDED = "ended"
    DEAD = "dead"
    FAILED = "failed"


GONE = (Mode.STOPPED, Mode.ENDED, Mode.DEAD, Mode.FAILED)


class Rank(NamedTuple):
    """A process."""

    member: Member = Member(is_connected=True)
    at: int = 0  # index of the operation
    mode: Mode = Mode.RUN
    seen: int = -1  # index of the last boundary whose place was written
    is_linked: bool = True
    order: Order = Order.GO_ON  # what it does while it acts, or did when it stopped
    saves: int = 0


class Move(NamedTuple):
    """Something that a rank may do without the others."""

    label: str
    after: Rank
    said: Said = ()


class Program:
    """A script, and the rules by which it is executed."""

    def __init__(self, ops: Ops, rules: Rules, *, is_short: bool) -> None:
        self.ops, self.rules, self.is_short = ops, rules, is_short
        self.index = {op.key: i for i, op in enumerate(ops) if isinstance(op, Collective)}

    def moves(self, rank: Rank) -> Iterator[Move]:
        """What the threads of a rank may do without any other rank."""
        if rank.mode in GONE:
            return
        if rank.member.owes:
            yield self._answered(rank)
        if rank.mode is Mode.ACT:
            if rank.order is Order.LEAVE:
                yield self.ended("leaves", rank, Mode.STOPPED)
        elif rank.at == len(self.ops):
            yield self.ended("ends", rank, Mode.ENDED)
        elif isinstance(at := self.ops[rank.at], Boundary):
            yield from self._at_boundary(rank, at)

    def _at_boundary(self, rank: Rank, at: Boundary) -> Iterator[Move]:
        if rank.mode is Mode.RUN and self.rules.writes_first:
            yield Move(f"is at {at}", rank._replace(mode=Mode.TEST, seen=rank.at))
        elif rank.mode is Mode.WRITE:
            yield self._onward(rank._replace(seen=rank.at), "writes its place")
        elif rank.mode is not Mode.WAIT and rank.member.is_free:
            after = rank._replace(mode=Mode.WRITE)
            yield self._onward(rank) if self.rules.writes_first else Move("tests", after)
        else:
            yield from self._ordered(rank, at)

    def _ordered(self, rank: Rank, at: Boundary) -> Iterator[Move]:
        place, clean = self.rules.place(at), self.rules.is_clean(at)
        after, said, ordered = self.rules.at_boundary(rank.member, place, is_clean=clean)
        rank = rank._replace(member=after, seen=rank.at)
        if ordered is Order.WAIT:
            if rank.mode is not Mode.WAIT or said:
                yield Move("is here" if said else "holds", rank._replace(mode=Mode.WAIT), said)
        elif ordered is Order.GO_ON:
            yield self._onward(rank)
        elif ordered is Order.LOST:
            yield self.ended("raises ControlLost", rank, Mode.FAILED)
        else:
            for order in self.rules.choices(ordered, self.is_short):
                yield Move(f"acts: {order}", rank._replace(mode=Mode.ACT, order=order), said)

    @staticmethod
    def _onward(rank: Rank, label: str = "goes on") -> Move:
        return Move(label, rank._replace(at=rank.at + 1, mode=Mode.RUN))

    def _answered(self, rank: Rank) -> Move:
        at = self.ops[rank.seen] if rank.seen >= 0 else None
        place = self.rules.place(at) if isinstance(at, Boundary) else Place()
        after, said = self.rules.answer(rank.member, place)
        return Move("answers", rank._replace(member=after), said)

    def ended(self, label: str, rank: Rank, mode: Mode) -> Move:
        """The process ends, and says so."""
        after, said = self.rules.end(rank.member)
        return Move(label, rank._replace(member=after, mode=mode), said)

    def through(self, rank: Rank) -> Move:
        """A collective is complete."""
        return Move(f"is through {self.ops[rank.at]}", rank._replace(at=rank.at + 1))

    def acted(self, rank: Rank) -> Move:
        """The save is complete."""
        if rank.order is Order.STOP:
            return self.ended("stops", rank, Mode.STOPPED)
        after, said = self.rules.saved(rank.member)
        rank = rank._replace(member=after, order=Order.GO_ON, saves=rank.saves + 1)
        return Move("has saved", self._onward(rank).after, said)

    def heard(self, rank: Rank, message: Message) -> Move:
        """The control thread takes a message."""
        after, said = self.rules.hear(rank.member, message)
        return Move(f"hears {message}", rank._replace(member=after), said)

    def wished(self, rank: Rank, action: Action) -> Move:
        """The rank wants something."""
        after, said = self.rules.want(rank.member, Wish(action))
        return Move(f"wants to {action}", rank._replace(member=after), said)

    def unlinked(self, rank: Rank) -> Move:
        """The control thread sees the end of its connection."""
        after, said = self.rules.disconnect(rank.member)
        return Move("sees the end of its connection", rank._replace(member=after), said)

    def linked(self, rank: Rank) -> Move:
        """The control thread has a new connection."""
        if rank.member.is_connected:
            rank = self.unlinked(rank).after
        after, said = self.rules.connect(rank.member)
        return Move("is connected again", rank._replace(member=after, is_linked=True), said)

    def expired(self, rank: Rank) -> Move:
        """The rank's timer goes off."""
        timer = rank.member.timer
        assert timer is not None
        after, said = self.rules.expire(rank.member, timer)
        return Move(f"'s timer for the {timer.wait} ends", rank._replace(member=after), said)

    def has_entered(self, rank: Rank, op: Collective) -> bool:
        """Whether a rank takes part in a collective of another one."""
        index = self.index.get(op.key)
        if index is not None:
            return rank.at > index or (rank.at == index and rank.mode is Mode.RUN)
        at = self.ops[rank.at] if rank.at < len(self.ops) else None
        is_shadow = isinstance(at, Collective) and at.is_join
        return (is_shadow and rank.mode is Mode.RUN) or rank.mode is Mode.ENDED


def has_saved_with(one: Rank, rank: Rank) -> bool:
    """Whether one takes part in the save of another rank."""
    is_in = one.mode is Mode.ACT and one.order is not Order.LEAVE and one.saves == rank.saves
    has_stopped = one.mode is Mode.STOPPED and one.order is Order.STOP
    return is_in or one.saves > rank.saves or has_stopped
