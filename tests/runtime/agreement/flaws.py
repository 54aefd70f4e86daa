"""The flaws that a first design of the agreement had: rules without their cures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from runtime.control.agreement import coordinator, member
from runtime.control.agreement.coordinator import Coordinator, Stage
from runtime.control.agreement.member import Member, Order, Standing
from runtime.control.agreement.messages import Action, Answer, Bye, Down, Here, Up, Wish
from runtime.control.place import Place
from tests.runtime.agreement.rules import RULES, Rules
from tests.runtime.agreement.scripts import Boundary


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """Rules that lack a cure.

    Attributes:
        says: what the rules do.
        case: the name of a job that shows it.
        wrong: part of what does not hold then.
        changes: the rules that differ.
        only_ends: whether it is shown by what becomes of the job, not by what a rank does.
    """

    says: str
    case: str
    wrong: str
    changes: dict[str, Any]
    only_ends: bool = False

    @property
    def rules(self) -> Rules:
        """The rules without the cure."""
        return replace(RULES, **self.changes)


def acts_alone(state: Member, place: Place, **facts: bool) -> tuple[Member, member.Said, Order]:
    """A rank stops at its target, and does not wait until all are there."""
    after, said, order = member.at_boundary(state, place, **facts)
    if after.standing is Standing.HERE and state.standing is Standing.BOUND:
        after, said = replace(after, standing=Standing.ACTING, action=Action.STOP), ()
        return after, said, Order.STOP
    return after, said, order


def acts_anywhere(state: Member, place: Place, **facts: bool) -> tuple[Member, member.Said, Order]:
    """A rank that was told a place stops at its next boundary."""
    if state.standing is Standing.BOUND:
        state = replace(state, place=Place())
    return acts_alone(state, place, **facts)


def without_numbers(state: Coordinator, rank: int, message: Up, **facts: bool) -> coordinator.Step:
    """What was said in an earlier round counts in this one."""
    if not isinstance(message, Wish | Bye) and state.round:
        message = replace(message, round=state.round)
    return coordinator.receive(state, rank, message, **facts)


def without_numbers_and_places(
    state: Coordinator, rank: int, message: Up, **facts: bool
) -> coordinator.Step:
    """What is more, the coordinator does not compare where the ranks are."""
    if isinstance(message, Here):
        message = replace(message, place=max(state.places, default=message.place))
    return without_numbers(state, rank, message, **facts)


def counts_the_ended(state: Coordinator, rank: int, message: Up, **facts: bool) -> coordinator.Step:
    """A rank that has ended counts as one that has answered, and is here."""
    if not isinstance(message, Bye) or state.stage not in (Stage.ASKED, Stage.DECIDED):
        return coordinator.receive(state, rank, message, **facts)
    kind = Answer if state.stage is Stage.ASKED else Here
    place = max(state.places, default=Place())
    return coordinator.receive(state, rank, kind(state.round, place), **facts)


def says_nothing(state: Member, seconds_left: float | None = None) -> member.Step:
    """A rank says nothing again on a new connection."""
    return member.connect(state, seconds_left)[0], ()


def repeats_nothing(state: Coordinator, rank: int) -> coordinator.Step:
    """The coordinator says nothing again on a new connection."""
    return coordinator.connect(state, rank)[0], ()


def repeats(*kinds: type[Up]) -> Callable[[Member], member.Step]:
    """A rank says only some kinds again on a new connection."""

    def connect(state: Member) -> member.Step:
        after, said = member.connect(state)
        return after, tuple(one for one in said if isinstance(one, kinds))

    return connect


def is_deaf(state: Member, message: Down) -> member.Step:
    """A rank at its target listens to nothing but its own round."""
    if state.standing is Standing.HERE and message.round > state.round:
        return state, ()
    return member.hear(state, message)


def goes_on(state: Member, place: Place, **facts: bool) -> tuple[Member, member.Said, Order]:
    """A rank at its target that has waited for too long goes on alone."""
    if state.standing is Standing.LOST:
        return replace(state, standing=Standing.FREE), (), Order.GO_ON
    return member.at_boundary(state, place, **facts)


def looks_at_its_clock(order: Order, is_short: bool) -> tuple[Order, ...]:
    """Each rank decides whether there is time for a save."""
    return (Order.STOP, Order.LEAVE) if is_short and order is Order.STOP else (order,)


def or_evaluating(at: Boundary) -> bool:
    """A stop may fall into an evaluation."""
    return at.is_evaluation or RULES.is_clean(at)


def or_joined(at: Boundary) -> bool:
    """A stop may fall into a join."""
    return RULES.is_clean(at._replace(is_joined=False))


def or_ending(at: Boundary) -> bool:
    """A stop or a save may fall on the end of a pass."""
    return RULES.is_clean(at._replace(is_pass_end=False))


def by_pass(at: Boundary) -> Place:
    """Places that count passes and batches instead of steps."""
    return Place((at.place.epochs * 10 + at.number) * 10 + at.batch + 1, 0)


def no_depth(at: Boundary) -> int:
    """Nothing is taken off the place of a script that reads ahead."""
    del at
    return 0


GATHERS = "2 ranks: an evaluation that gathers each batch"
GATHERS_LATE = "2 ranks: an evaluation that gathers at its end"

FLAWS = (
    Flaw(
        says="F1 tests, then writes its place",
        case="2 ranks: plain",
        wrong="missed",
        changes={"writes_first": False},
    ),
    Flaw(
        says="F1 tests, then writes its place, and acts alone",
        case="2 ranks: plain",
        wrong="deadlock",
        changes={"writes_first": False, "at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F2 acts alone, beside a hold that ends",
        case="2 ranks, one round: a hold ends",
        wrong="deadlock",
        changes={"at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F3 counts a late answer in the next round, and acts alone",
        case="2 ranks: a late answer",
        wrong="deadlock",
        changes={"chief_receive": without_numbers, "at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F3 counts a late answer in the next round, and does not compare the places",
        case="2 ranks: a late answer before an epoch without batches",
        wrong="different places",
        changes={"chief_receive": without_numbers_and_places},
    ),
    Flaw(
        says="F4 neither end says again what is open",
        case="2 ranks, one round: a cut",
        wrong="deadlock",
        changes={"connect": says_nothing, "chief_connect": repeats_nothing},
        only_ends=True,
    ),
    Flaw(
        says="F4 the coordinator does not say again what is open",
        case="2 ranks, one round: a cut",
        wrong="deadlock",
        changes={"chief_connect": repeats_nothing},
    ),
    Flaw(
        says="F4 a rank does not say again what it wants",
        case="2 ranks, one round: a cut",
        wrong="wants something that the coordinator does not know",
        changes={"connect": repeats(Here, Answer)},
    ),
    Flaw(
        says="F5 stops in an evaluation that gathers, and acts alone",
        case=GATHERS,
        wrong="deadlock",
        changes={"is_clean": or_evaluating, "at_boundary": acts_anywhere},
        only_ends=True,
    ),
    Flaw(
        says="F5b stops in an evaluation that gathers at its end, and acts alone",
        case=GATHERS_LATE,
        wrong="deadlock",
        changes={"is_clean": or_evaluating, "at_boundary": acts_anywhere},
        only_ends=True,
    ),
    Flaw(
        says="F5c stops in an evaluation, behind what the script did before it",
        case="2 ranks: an evaluation without collectives",
        wrong="runs twice",
        changes={"is_clean": or_evaluating, "place": by_pass},
    ),
    Flaw(
        says="F6 stops in an evaluation inside a window",
        case="2 ranks: an evaluation inside a window",
        wrong="gradients are lost",
        changes={"is_clean": or_evaluating, "place": by_pass},
    ),
    Flaw(
        says="F7 stops in a join",
        case="2 ranks: uneven inputs in a join",
        wrong="missed",
        changes={"is_clean": or_joined},
    ),
    Flaw(
        says="F7 stops in a join, and acts alone",
        case="2 ranks: uneven inputs in a join",
        wrong="deadlock",
        changes={"is_clean": or_joined, "at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F8 counts passes and batches",
        case="2 ranks: rank 0 evaluates alone",
        wrong="missed",
        changes={"place": by_pass},
    ),
    Flaw(
        says="F8 counts passes and batches, and acts alone",
        case="2 ranks: rank 0 evaluates alone",
        wrong="deadlock",
        changes={"place": by_pass, "at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F9 saves the place of batches that were not trained on",
        case="2 ranks: all read ahead",
        wrong="not trained on",
        changes={"depth": no_depth},
    ),
    Flaw(
        says="F10 counts a rank that has ended as one that agrees, and acts alone",
        case="2 ranks: the end",
        wrong="deadlock",
        changes={"chief_receive": counts_the_ended, "at_boundary": acts_alone},
        only_ends=True,
    ),
    Flaw(
        says="F11 each rank looks at its own clock",
        case="2 ranks: little time",
        wrong="different things",
        changes={"choices": looks_at_its_clock},
    ),
    Flaw(
        says="F12 the coordinator ends with its own rank",
        case="2 ranks, one round: a cut with little time",
        wrong="failed",
        changes={"stays": False},
    ),
    Flaw(
        says="F13 a rank at its target listens to its own round only",
        case="2 ranks: a cut",
        wrong="deadlock",
        changes={"hear": is_deaf},
    ),
    Flaw(
        says="F16 a stop does not wait for the evaluation behind a pass",
        case="2 ranks: an evaluation without collectives",
        wrong="without a batch",
        changes={"is_clean": or_ending},
    ),
    Flaw(
        says="F16 a rank saves at the end of a pass",
        case="2 ranks: a save",
        wrong="without a batch",
        changes={"is_clean": or_ending},
    ),
    Flaw(
        says="a rank does not say again that it has saved",
        case="2 ranks, one round: a cut in a save",
        wrong="all have saved",
        changes={"connect": repeats(Here, Wish)},
    ),
    Flaw(
        says="a rank at its target goes on alone when it has no connection",
        case="2 ranks, one round: a cut for too long",
        wrong="deadlock",
        changes={"at_boundary": goes_on},
    ),
)
