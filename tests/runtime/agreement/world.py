"""All processes of a job: the states that it can be in, and the steps between them.

A link is first in, first out. It may be cut, and come back. A process may die. A timer goes off at
any moment if the case has one to spend, and otherwise when nothing else can happen.

A state is a tuple of numbers, which `Parts` knows: the ranks, what is under way from each, what is
under way to each, the coordinator, the wishes that were not made yet, what is left of the budget.
"""

from collections.abc import Iterator
from itertools import permutations

from runtime.control.agreement.coordinator import Coordinator
from runtime.control.agreement.member import Order
from runtime.control.agreement.messages import Bye
from tests.runtime.agreement.cases import Case, Fault
from tests.runtime.agreement.parts import Known, Parts, Told
from tests.runtime.agreement.ranks import GONE, Mode, Rank, has_saved_with
from tests.runtime.agreement.rules import Rules
from tests.runtime.agreement.scripts import Collective
from tests.runtime.agreement.tables import NOTHING, End

State = tuple[int, ...]
Step = tuple[str, State]

BITS = 3  # of each fault in a budget
END = End()
BROKEN = (Mode.DEAD, Mode.FAILED)


class World:
    """The steps that a state can take."""

    def __init__(self, case: Case, rules: Rules) -> None:
        self.case, self.rules, self.size = case, rules, len(case.scripts)
        self.parts = Parts(case, rules)
        size = self.size
        self.up, self.down = range(size, 2 * size), range(2 * size, 3 * size)
        self.chief, self.wishes, self.budget = 3 * size, 3 * size + 1, 3 * size + 2
        self.is_smooth = case.is_smooth
        self.can_skip = not (case.deaths or case.losses)
        self.orders = self._orders()

    def _orders(self) -> list[tuple[int, ...]]:
        """The other orders of the ranks that make no difference."""
        asking = {who for who, _ in self.case.wishes}

        def are_alike(one: int, other: int) -> bool:
            """Rank 0 is like no other one: its process may have the coordinator."""
            is_special = not {one, other}.isdisjoint(asking | {0})
            scripts = self.case.scripts
            return one == other or (not is_special and scripts[one] == scripts[other])

        ranks = range(self.size)
        _own, *others = (one for one in permutations(ranks) if all(map(are_alike, one, ranks)))
        return others

    def first(self) -> State:
        """All are connected, and nothing has happened."""
        parts, size = self.parts, self.size
        chief = parts.chiefs.number(Coordinator(size, connected=frozenset(range(size))))
        ranks = [parts.ranks.number(Rank())] * size
        budget = sum(count << BITS * fault for fault, count in enumerate(self.case.budget))
        wishes = (1 << len(self.case.wishes)) - 1
        return (*ranks, *[NOTHING] * size, *[NOTHING] * size, chief, wishes, budget)

    def canonical(self, state: State) -> State:
        """The same for all states that differ in the order of ranks that are alike."""
        return min([state, *(self.ordered(state, order) for order in self.orders)])

    def ordered(self, state: State, order: tuple[int, ...]) -> State:
        """The state, if the ranks had another order."""
        size, chief = self.size, self.parts.ordered(state[self.chief], order)
        rows = [state[begin + i] for begin in (0, size, 2 * size) for i in order]
        return (*rows, chief, *state[self.wishes :])

    def ranks_of(self, state: State) -> list[Rank]:
        """The ranks of a state."""
        values = self.parts.ranks.values
        return [values[number] for number in state[: self.size]]

    def chief_of(self, state: State) -> Coordinator | None:
        """The coordinator of a state; None if its process has ended."""
        return self.parts.chiefs.values[state[self.chief]]

    def has(self, state: State, fault: Fault) -> bool:
        """Whether there is a fault to spend."""
        return bool(state[self.budget] >> BITS * fault & (1 << BITS) - 1)

    def steps(self, state: State) -> list[Step]:
        """Each step that is possible, with what it is called.

        That a rank is through a collective commutes with all other steps, and no property looks at
        it: where nobody dies or gives up, it is the only step.
        """
        ranks, chief = self.ranks_of(state), self.chief_of(state)
        found = list(self._collectives(state, ranks))
        if found and self.can_skip:
            return found[:1]
        found += self._saves(state, ranks)
        for i, rank in enumerate(ranks):
            if rank.mode not in GONE:
                found += self._alone(state, i, rank)
        if chief:
            found += self._coordinated(state, ranks)
        if not found:
            found += self._time(state, ranks)
        for i, rank in enumerate(ranks):
            if not self.is_smooth and rank.mode not in GONE:
                found += self._faults(state, i, rank)
        return found

    # Main threads together.

    def _collectives(self, state: State, ranks: list[Rank]) -> Iterator[Step]:
        programs = self.parts.programs
        for i, rank in enumerate(ranks):
            ops = programs[i].ops
            op = ops[rank.at] if rank.at < len(ops) else None
            if rank.mode is Mode.RUN and isinstance(op, Collective):
                others = (j for j in range(self.size) if j != i)
                ready = all(programs[j].has_entered(ranks[j], op) for j in others)
                yield from self._joined(state, i, ranks, ready=ready)

    def _saves(self, state: State, ranks: list[Rank]) -> Iterator[Step]:
        for i, rank in enumerate(ranks):
            if rank.mode is Mode.ACT and rank.order is not Order.LEAVE:
                ready = all(has_saved_with(one, rank) for one in ranks if one is not rank)
                yield from self._joined(state, i, ranks, ready=ready)

    def _joined(self, state: State, i: int, ranks: list[Rank], *, ready: bool) -> Iterator[Step]:
        if ready:
            yield self._moved(state, i, self.parts.joins(i, state[i]))
        elif any(one.mode in BROKEN for one in ranks):
            yield self._moved(state, i, self.parts.fails(i, state[i]))

    # A rank alone.

    def _alone(self, state: State, i: int, rank: Rank) -> Iterator[Step]:
        for known in self.parts.own(i, state[i]):
            yield self._moved(state, i, known)
        if rank.member.owes:
            return  # its control thread does one thing after the other
        for wish, (who, _) in enumerate(self.case.wishes):
            if who == i and state[self.wishes] >> wish & 1:
                made = _put(state, self.wishes, state[self.wishes] - (1 << wish))
                yield self._moved(made, i, self.parts.wants(i, state[i], wish))
        if queue := state[self.down[i]]:
            known, rest = self.parts.hears(i, state[i], queue)
            yield self._moved(_put(state, self.down[i], rest), i, known)

    def _moved(self, state: State, i: int, known: Known) -> Step:
        """A rank has moved, and what it has said is under way."""
        label, after, said = known
        found = list(state)
        found[i] = after
        rank = self.parts.ranks.values[after]
        chief = self.chief_of(state)
        if rank.is_linked and chief:
            found[self.up[i]] = self.parts.queues.join(state[self.up[i]], said)
        if rank.mode in GONE:
            self._leave(found, i, rank, chief)
        return label, tuple(found)

    def _leave(self, found: list[int], i: int, rank: Rank, chief: Coordinator | None) -> None:
        """A process has ended: the coordinator sees the end of its connection."""
        queues = self.parts.queues
        found[self.down[i]] = NOTHING
        is_tidy = rank.mode not in BROKEN and self.rules.stays
        if i == 0 and self.case.is_hosted and not is_tidy:
            found[self.chief] = self.parts.chiefs.number(None)
            for j in range(self.size):
                found[self.up[j]] = NOTHING
                other = self.parts.ranks.values[found[j]]
                if other.is_linked and other.mode not in GONE:
                    found[j] = self.parts.ranks.number(other._replace(is_linked=False))
                    found[self.down[j]] = queues.join(found[self.down[j]], queues.of(END))
        elif rank.is_linked and chief:
            # Its launcher knows how the process of rank 0 has ended.
            last = (Bye(), END) if i == 0 and rank.mode is Mode.DEAD else (END,)
            found[self.up[i]] = queues.join(found[self.up[i]], queues.of(*last))

    # The coordinator.

    def _coordinated(self, state: State, ranks: list[Rank]) -> list[Step]:
        number, found = state[self.chief], []
        for i in range(self.size):
            if queue := state[self.up[i]]:
                label, rest, results = self.parts.receives(number, i, queue)
                taken = _put(state, self.up[i], rest)
                found += [(label, self._told(taken, told)) for told in results]
        if asked := self.parts.asks(number):
            found.append(("coordinator asks", self._told(state, asked)))
        if not self.is_smooth and (ended := self.parts.times_out(number)):
            is_missing = any(one.mode in GONE or not one.is_linked for one in ranks)
            if is_missing or self.has(state, Fault.TIMER):
                spent = state if is_missing else self._spent(state, Fault.TIMER)
                found.append(("coordinator's timer ends", self._told(spent, ended)))
        return found

    def _told(self, state: State, told: Told) -> State:
        """The coordinator has moved, and what it has sent is under way."""
        found = list(state)
        found[self.chief] = told.after
        for i, message in told.sent:
            rank = self.parts.ranks.values[state[i]]
            if rank.is_linked and rank.mode not in GONE:
                found[self.down[i]] = self.parts.queues.join(found[self.down[i]], message)
        return tuple(found)

    # Time and faults.

    def _time(self, state: State, ranks: list[Rank]) -> Iterator[Step]:
        """Time goes by until a timer goes off."""
        has_chief = self.chief_of(state) is not None
        for i, rank in enumerate(ranks):
            fault = self.parts.timer(state[i])
            if rank.mode not in GONE and (fault is Fault.HOLD or (fault and not has_chief)):
                yield self._moved(state, i, self.parts.expires(i, state[i]))
        if has_chief and (ended := self.parts.times_out(state[self.chief])):
            yield "coordinator's timer ends", self._told(state, ended)

    def _faults(self, state: State, i: int, rank: Rank) -> Iterator[Step]:
        fault = self.parts.timer(state[i])
        if fault is not None and self.has(state, fault):
            yield self._moved(self._spent(state, fault), i, self.parts.expires(i, state[i]))
        if self.has(state, Fault.DEATH):
            yield self._moved(self._spent(state, Fault.DEATH), i, self.parts.dies(i, state[i]))
        if self.chief_of(state) is None:
            return
        if rank.is_linked and self.has(state, Fault.CUT):
            yield from self._cut(self._spent(state, Fault.CUT), i)
        elif not rank.is_linked and not rank.member.owes:
            yield self._linked(state, i)

    def _spent(self, state: State, fault: Fault) -> State:
        return _put(state, self.budget, state[self.budget] - (1 << BITS * fault))

    def _cut(self, state: State, i: int) -> Iterator[Step]:
        """What is under way to a rank is lost; what is under way from it may still arrive."""
        queues = self.parts.queues
        known, end = self.parts.cut(i, state[i]), queues.of(END)
        found = list(state)
        found[i], found[self.down[i]], found[self.up[i]] = known.after, end, end
        yield known.label, tuple(found)
        if state[self.up[i]]:
            found[self.up[i]] = queues.join(state[self.up[i]], end)
            yield f"{known.label}, and what it said arrives", tuple(found)

    def _linked(self, state: State, i: int) -> Step:
        """A new connection; nothing is left of the one before it."""
        known = self.parts.links(i, state[i])
        found = list(state)
        found[i], found[self.up[i]], found[self.down[i]] = known.after, known.said, NOTHING
        return known.label, self._told(tuple(found), self.parts.meets(state[self.chief], i))


def _put(state: State, where: int, what: int) -> State:
    return (*state[:where], what, *state[where + 1 :])
