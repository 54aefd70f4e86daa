"""The coordinator's part of an agreement: a frozen state, and what each event makes of it.

The coordinator speaks to all ranks at once, and repeats its last word to a rank that connects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from runtime.control.agreement.messages import (
    Action,
    Answer,
    Ask,
    Bye,
    Cancel,
    Decide,
    Down,
    Go,
    Here,
    Late,
    Saved,
    Up,
    Wish,
)
from runtime.control.agreement.timers import Timer, Wait
from runtime.control.place import Place


class Stage(StrEnum):
    """How far the coordinator's round is."""

    IDLE = "idle"  # there is no round
    ASKED = "asked"  # waits for an answer of each rank
    DECIDED = "decided"  # waits until each rank is at its target
    SAVING = "saving"  # waits until each rank has saved
    OVER = "over"  # all ranks stop, or one has ended: there are no rounds any more


@dataclass(frozen=True, slots=True)
class Coordinator:
    """What the coordinator knows of the agreement, in one life of a job.

    Attributes:
        size: the number of ranks, >= 1.
        stage: how far the round is.
        round: the number of the round, or of the last one; 0 before the first.
        wanted: what is still to be agreed on; None if there is nothing.
        connected: the ranks that have a connection.
        ended: the ranks that have said that they end.
        awaited: the ranks that the stage waits for.
        places: the places that ranks have named in this stage.
        word: the last message to all ranks; None before the first.
        cancelled: the number of rounds in a row that were cancelled.
    """

    size: int
    stage: Stage = Stage.IDLE
    round: int = 0
    wanted: Action | None = None
    connected: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    awaited: frozenset[int] = frozenset()
    places: frozenset[Place] = frozenset()
    word: Down | None = None
    cancelled: int = 0

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")

    @property
    def everyone(self) -> frozenset[int]:
        """All ranks."""
        return frozenset(range(self.size))

    @property
    def may_ask(self) -> bool:
        """Whether `ask` begins a round; the caller also looks at the beats and the backoff."""
        is_idle = self.stage is Stage.IDLE and self.wanted is not None
        return is_idle and self.connected == self.everyone

    @property
    def is_over(self) -> bool:
        """Whether there are no agreements any more."""
        return self.stage is Stage.OVER

    @property
    def is_alone(self) -> bool:
        """Whether all ranks have said that they end, so that the coordinator's host may leave."""
        return self.ended == self.everyone

    @property
    def timer(self) -> Timer | None:
        """The timer that is to run; None for none."""
        if self.stage is Stage.ASKED:
            return Timer(Wait.ANSWERS, self.round)
        if self.stage is Stage.DECIDED:
            wait = Wait.STOP if self.wanted is Action.STOP else Wait.SAVE
            return Timer(wait, self.round)
        return None


Sent = tuple[tuple[int, Down], ...]  # ranks, and what is sent to each
Step = tuple[Coordinator, Sent]


def connect(state: Coordinator, rank: int) -> Step:
    """A rank has connected, perhaps anew: it hears the last word."""
    after = replace(state, connected=state.connected | {rank})
    return after, ((rank, state.word),) if state.word else ()


def disconnect(state: Coordinator, rank: int) -> Step:
    """A rank's connection has ended; the round's timer decides how long that is waited for."""
    return replace(state, connected=state.connected - {rank}), ()


def ask(state: Coordinator) -> Step:
    """Begin a round if there is something to agree on and all ranks are connected."""
    if not state.may_ask:
        return state, ()
    return _say(state, Stage.ASKED, Ask(state.round + 1))


def expire(state: Coordinator, timer: Timer) -> Step:
    """A timer has gone off; one that is not this state's any more changes nothing."""
    return _cancel(state) if timer == state.timer else (state, ())


def receive(state: Coordinator, rank: int, message: Up, *, has_time_to_save: bool = True) -> Step:
    """A rank has said something.

    Args:
        state: the state before.
        rank: who has said it.
        message: what was said.
        has_time_to_save: whether a stop now has the time for a save.
    """
    if isinstance(message, Wish):
        return _wish(state, message), ()
    if isinstance(message, Bye):
        return _bye(state, rank)
    if message.round != state.round:
        return state, ()
    if isinstance(message, Late):
        return _cancel_open(state)
    if type(message) is _REPORTS.get(state.stage):
        state = _report(state, rank, message)
        if not state.awaited:
            return _advance(state, has_time_to_save=has_time_to_save)
    return state, ()


# What each rank reports once in a stage. A report that is repeated says the same or is later.
_REPORTS: Mapping[Stage, type[Up]] = {
    Stage.ASKED: Answer,
    Stage.DECIDED: Here,
    Stage.SAVING: Saved,
}


def _wish(state: Coordinator, wish: Wish) -> Coordinator:
    """A stop also saves, so that it replaces a save."""
    return state if state.wanted is Action.STOP else replace(state, wanted=wish.action)


def _bye(state: Coordinator, rank: int) -> Step:
    """One that has ended takes part in no save: an open round is cancelled, and is the last."""
    after, sent = _cancel_open(replace(state, ended=state.ended | {rank}))
    return replace(after, stage=Stage.OVER), sent


def _report(state: Coordinator, rank: int, message: Answer | Here | Late | Saved) -> Coordinator:
    named = frozenset({message.place}) if isinstance(message, Answer | Here) else frozenset()
    return replace(state, awaited=state.awaited - {rank}, places=state.places | named)


def _advance(state: Coordinator, *, has_time_to_save: bool) -> Step:
    """All ranks have reported."""
    if state.stage is Stage.ASKED:
        return _say(state, Stage.DECIDED, Decide(state.round, max(state.places)))
    if state.stage is Stage.DECIDED:
        return _go(state, has_time_to_save=has_time_to_save)
    return replace(state, stage=Stage.IDLE), ()


def _go(state: Coordinator, *, has_time_to_save: bool) -> Step:
    if len(state.places) > 1:  # the ranks do not count the same steps: nobody may save
        return _cancel(state)
    if state.wanted is Action.SAVE:
        state = replace(state, wanted=None, cancelled=0)
        return _say(state, Stage.SAVING, Go(state.round, Action.SAVE))
    action = Action.STOP if has_time_to_save else Action.LEAVE
    return _say(state, Stage.OVER, Go(state.round, action))


def _cancel_open(state: Coordinator) -> Step:
    """Cancel the round, if its outcome is open."""
    return _cancel(state) if state.stage in (Stage.ASKED, Stage.DECIDED) else (state, ())


def _cancel(state: Coordinator) -> Step:
    state = replace(state, cancelled=state.cancelled + 1)
    return _say(state, Stage.IDLE, Cancel(state.round))


def _say(state: Coordinator, stage: Stage, word: Down) -> Step:
    """Begin a stage, and tell all ranks that are connected."""
    state = replace(
        state,
        stage=stage,
        round=word.round,
        word=word,
        awaited=state.everyone,
        places=frozenset(),
    )
    return state, tuple((rank, word) for rank in sorted(state.connected))
