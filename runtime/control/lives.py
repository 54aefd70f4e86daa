"""Decides whether all pods of an attempt begin another life: a pure state machine.

A launcher asks for it when a process has failed, or was asked to stop behind its back, so that all
ranks stop. If all launchers are connected and the budget allows it, all end what they run. Only
when nothing of the old life runs any more, the new one begins: a process that begins too early
would join the old rank 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.control.messages import MAX_TEXT, Begin, Clear, Cleared, Fell, GiveUp

Order = Begin | Clear | GiveUp
Sent = tuple[tuple[int, Order], ...]  # replica, what its launcher hears
CLEARING_SECONDS = 30.0  # in which all launchers must have ended their processes


class Standing(StrEnum):
    """What the launchers do."""

    RUNNING = "running"
    CLEARING = "clearing"  # they end what they run
    OVER = "over"  # no other life begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """What another life may follow.

    Attributes:
        most: how many lives may follow the first one.
        ends_hangs: whether a hang ends a life, if another one may follow.
    """

    most: int = 0
    ends_hangs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """What the coordinator knows of the lives of an attempt.

    Attributes:
        pods: the number of pods.
        budget: how many lives may follow the first one.
        name: returns a new random name for a life.
        number: the current life, from 0.
        life: the name of the current life.
        standing: what the launchers do.
        attending: the pods whose launchers are connected.
        cleared: the pods in which nothing of the current life runs any more.
        failure: why the current life was ended; None if it was not.
        before: the failure that has ended the life before.
        why: why no other life begins, if none does.
    """

    pods: int
    budget: int
    name: Callable[[], str]
    life: str
    number: int = 0
    standing: Standing = Standing.RUNNING
    attending: frozenset[int] = frozenset()
    cleared: frozenset[int] = frozenset()
    failure: Fell | None = None
    before: Fell | None = None
    why: str = ""

    @property
    def everyone(self) -> frozenset[int]:
        """All pods."""
        return frozenset(range(self.pods))


def attend(state: Lives, replica: int) -> tuple[Lives, Sent]:
    """Let a launcher in, and repeat to it what it may have missed."""
    state = replace(state, attending=state.attending | {replica})
    order = _standing_order(state)
    return state, () if order is None else ((replica, order),)


def leave(state: Lives, replica: int) -> tuple[Lives, Sent]:
    """Note that a launcher is not connected any more; it may connect again."""
    return replace(state, attending=state.attending - {replica}), ()


def fall(state: Lives, failure: Fell, *, has_stepped: bool, stops: bool) -> tuple[Lives, Sent]:
    """Take a failure, and end the life if another one may follow.

    Args:
        state: what is known.
        failure: what has failed.
        has_stepped: whether a step was completed in this life.
        stops: whether the processes were asked to stop.
    """
    if failure.number != state.number or state.standing is Standing.CLEARING:
        return state, ()  # of an older life, or a consequence
    why = state.why or _refusal(state, failure, has_stepped=has_stepped, stops=stops)
    if why:
        return _give_up(state, why)
    clearing = replace(state, standing=Standing.CLEARING, failure=failure)
    return clearing, _to_all(clearing, _clear(clearing))


def clear(state: Lives, replica: int, said: Cleared) -> tuple[Lives, Sent]:
    """Note that nothing of a life runs in a pod any more; begin the next one after the last."""
    if said.number != state.number or state.standing is not Standing.CLEARING:
        return state, ()
    state = replace(state, cleared=state.cleared | {replica})
    if state.cleared != state.everyone:
        return state, ()
    begun = replace(
        state,
        number=state.number + 1,
        life=state.name(),
        standing=Standing.RUNNING,
        cleared=frozenset(),
        failure=None,
        before=state.failure,
    )
    return begun, _to_all(begun, Begin(number=begun.number, life=begun.life))


def retire(state: Lives, replica: int) -> tuple[Lives, Sent]:
    """Give up because a pod was asked to stop or has ended, whatever the launchers do."""
    return _give_up(state, f"replica {replica} was asked to stop, or has ended")


def expire(state: Lives) -> tuple[Lives, Sent]:
    """Give up because a launcher has not ended its processes in `CLEARING_SECONDS`."""
    missing = sorted(state.everyone - state.cleared)
    why = f"the processes of replicas {missing[:8]} have not ended in {CLEARING_SECONDS:g} s"
    return _give_up(state, why)


def _give_up(state: Lives, why: str) -> tuple[Lives, Sent]:
    over = replace(state, standing=Standing.OVER, why=why)
    return over, _to_all(over, GiveUp(number=state.number, why=why))


def _refusal(state: Lives, failure: Fell, *, has_stepped: bool, stops: bool) -> str:
    """Return why no other life may follow; empty if one may."""
    absent = sorted(state.everyone - state.attending)
    before = state.before
    is_same = before is not None and failure.is_like(before)
    reasons = (
        (stops, "the processes were asked to stop"),
        (bool(failure.why_not), failure.why_not),
        (state.number >= state.budget, f"the pods have restarted {state.number} times in place"),
        (bool(absent), f"the launchers of replicas {absent[:8]} are not connected"),
        (failure.is_error and not has_stepped, "no step was completed before the error"),
        (is_same, "the same error has come at the same step again"),
    )
    return next((why for holds, why in reasons if holds), "")


def _standing_order(state: Lives) -> Order | None:
    if state.standing is Standing.CLEARING:
        return _clear(state)
    if state.standing is Standing.OVER:
        return GiveUp(number=state.number, why=state.why)
    return Begin(number=state.number, life=state.life) if state.number else None


def _clear(state: Lives) -> Clear:
    failure = state.failure
    why = "" if failure is None else failure.sentence[:MAX_TEXT]
    return Clear(number=state.number, why=why, at_once=failure is None or not failure.is_stop)


def _to_all(state: Lives, order: Order) -> Sent:
    return tuple((replica, order) for replica in sorted(state.attending))
