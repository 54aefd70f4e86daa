"""The jobs that are explored: what their scripts do, who wants what, and what goes wrong."""

from dataclasses import dataclass, replace
from enum import IntEnum

from runtime.control.agreement.messages import Action
from tests.runtime.agreement.scripts import Ops, Script, scripts


class Fault(IntEnum):
    """What may go wrong; the value is its place in a budget."""

    HOLD = 0  # a member's hold ends before the coordinator has said anything
    TIMER = 1  # the coordinator's timer goes off
    CUT = 2
    DEATH = 3
    LOSS = 4  # a member without a connection gives up


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job, and what may happen to it.

    Attributes:
        scripts: what each rank executes.
        wishes: ranks and what they want, each at any moment.
        holds: how many holds may end at any moment.
        timers: how often the coordinator's timer may go off at any moment.
        cuts: how many links may be cut, each at any moment.
        deaths: how many processes may die, each at any moment.
        losses: how many ranks without a connection may give up at any moment.
        is_short: whether the time that is left is about what a save takes.
        is_hosted: whether the coordinator is in the process of rank 0; otherwise in its launcher.
        rounds: how many rounds there may be.
    """

    scripts: tuple[Ops, ...]
    wishes: tuple[tuple[int, Action], ...] = ((0, Action.STOP),)
    holds: int = 0
    timers: int = 0
    cuts: int = 0
    deaths: int = 0
    losses: int = 0
    is_short: bool = False
    is_hosted: bool = True
    rounds: int = 2

    @property
    def budget(self) -> tuple[int, ...]:
        """How many of each fault, in the order of `Fault`."""
        return self.holds, self.timers, self.cuts, self.deaths, self.losses

    @property
    def is_smooth(self) -> bool:
        """Whether nothing may go wrong."""
        return not any(self.budget)


STOP, SAVE = Action.STOP, Action.SAVE


def smooth(size: int) -> dict[str, Case]:
    """Jobs in which nothing goes wrong, by what their scripts do."""

    def same(script: Script) -> Case:
        return Case(scripts=scripts(size, lambda _: script))

    even = scripts(size, lambda _: Script().train(3 if size == 2 else 2))
    last = size - 1
    return {
        "plain": Case(scripts=even),
        "two notices": Case(scripts=even, wishes=((0, STOP), (last, STOP))),
        "a save, then a notice": Case(scripts=even, wishes=((0, SAVE), (last, STOP))),
        "a save": Case(scripts=even, wishes=((0, SAVE),)),
        "accumulation": same(Script().train(5, window=2)),
        "an evaluation that gathers each batch": same(
            Script().train(1).evaluate(3, gathers="each").next_epoch().train(1)
        ),
        "an evaluation that gathers at its end": same(
            Script().train(1).evaluate(2, gathers="end").next_epoch().train(1)
        ),
        "an evaluation without collectives": same(
            Script().train(1).evaluate(3).next_epoch().train(1)
        ),
        "an evaluation inside a window": same(Script().train(4, window=2, evaluate_after=0)),
        "uneven inputs in a join": Case(
            scripts=scripts(
                size, lambda rank: Script().train_joined(1 + rank, size).next_epoch().train(1)
            )
        ),
        "all read ahead": same(Script().train_ahead(3, 1)),
        "rank 0 reads ahead": Case(
            scripts=scripts(
                size, lambda rank: Script().train(3) if rank else Script().train_ahead(3, 1)
            )
        ),
        "rank 0 evaluates alone": Case(
            scripts=scripts(
                size,
                lambda rank: (
                    (Script().train(1) if rank else Script().train(1).evaluate(1))
                    .barrier("evaluated")
                    .train(2)
                ),
            )
        ),
        "a break": same(Script().train(3, leave_after=1).next_epoch().train(1)),
        "the end": same(Script().train(1).next_epoch().evaluate(2)),
        "little time": replace(same(Script().train(2)), is_short=True),
    }


def faulty(size: int, steps: int) -> dict[str, Case]:
    """Jobs in which something goes wrong, by what it is.

    Args:
        size: the number of ranks.
        steps: the number of training steps, which is the number of targets.
    """
    stopped = Case(scripts=scripts(size, lambda _: Script().train(steps).next_epoch()))
    saved = replace(stopped, wishes=((0, SAVE),))
    launched = replace(stopped, is_hosted=False)
    return {
        "a hold ends": replace(stopped, holds=1, timers=1),
        "a late answer": replace(stopped, timers=1),
        "a late answer before an epoch without batches": replace(
            stopped,
            scripts=scripts(size, lambda _: Script().train(steps).next_epoch().next_epoch()),
            timers=1,
        ),
        "a cut": replace(stopped, cuts=1),
        "a cut with little time": replace(stopped, cuts=1, is_short=True),
        "a cut for too long": replace(stopped, cuts=1, losses=1),
        "a cut in a save": replace(saved, cuts=1),
        "a death": replace(stopped, deaths=1),
        "a death beside the launcher": replace(launched, deaths=1),
        "a death in a save": replace(saved, deaths=1, is_hosted=False),
        "a death, and a hold ends": replace(stopped, deaths=1, holds=1),
        "a cut and a later round": replace(stopped, cuts=1, timers=1),
        "a cut and a death": replace(stopped, cuts=1, deaths=1),
    }


def quick() -> dict[str, Case]:
    """What each run of the tests explores."""
    faults = faulty(2, 1)
    once = {name: replace(case, rounds=1) for name, case in faults.items()}
    twice = (
        "a hold ends",
        "a late answer",
        "a late answer before an epoch without batches",
        "a cut",
    )
    single = (
        "a cut with little time",
        "a cut for too long",
        "a cut in a save",
        "a death",
        "a death beside the launcher",
        "a death in a save",
    )
    three = ("plain", "rank 0 evaluates alone", "uneven inputs in a join")
    return {
        **{f"2 ranks: {name}": case for name, case in smooth(2).items()},
        **{f"2 ranks: {name}": faults[name] for name in twice},
        **{f"2 ranks, one round: {name}": once[name] for name in (*single, *twice)},
        **{f"3 ranks: {name}": smooth(3)[name] for name in three},
    }


def long() -> dict[str, Case]:
    """What the command explores as well."""
    one, two = faulty(3, 1), faulty(2, 1)
    known = quick()
    every = {
        "3 ranks, one round: a late answer": replace(one["a late answer"], rounds=1),
        "3 ranks, one round: a death": replace(one["a death"], rounds=1),
        "3 ranks, one round: a cut": replace(one["a cut"], rounds=1),
        "2 ranks, one round: two cuts": replace(two["a cut"], cuts=2, rounds=1),
        "2 ranks, three rounds: late answers": replace(two["a late answer"], timers=2, rounds=3),
        "2 ranks, three rounds: a cut": replace(two["a cut"], rounds=3),
        **{f"3 ranks: {name}": case for name, case in smooth(3).items()},
        **{f"2 ranks, two steps: {name}": case for name, case in faulty(2, 2).items()},
        "2 ranks: two cuts": replace(two["a cut"], cuts=2),
        "3 ranks: a late answer": one["a late answer"],
        "3 ranks: a death": one["a death"],
        "3 ranks: a cut": one["a cut"],
    }
    return {name: case for name, case in every.items() if name not in known}
