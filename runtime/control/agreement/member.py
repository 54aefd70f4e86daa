"""A rank's part of an agreement: a frozen state, and what each event makes of it.

Two threads share the state, under one lock. The rank's control thread passes on what it hears; the
main thread passes boundaries. Their order at a boundary is part of the protocol (`hear`, `answer`,
`at_boundary`). What a transition returns is sent in the order of the transitions.
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


class Standing(StrEnum):
    """What the newest round means to a rank."""

    FREE = "free"  # it is in no round
    HELD = "held"  # it was asked: its main thread stays at its next boundary
    BOUND = "bound"  # it was told a place: its main thread goes on to the target behind it
    HERE = "here"  # it is at its target: only the outcome moves it
    ACTING = "acting"  # it was told to go: it saves, stops or leaves
    LOST = "lost"  # no outcome could be had: its life fails
    ENDED = "ended"  # it takes part in nothing any more


class Order(StrEnum):
    """What the main thread is to do at a boundary."""

    GO_ON = "go on"
    WAIT = "wait"  # until the state changes; then ask again
    SAVE = "save"  # then call `saved`
    STOP = "stop"
    LEAVE = "leave"
    LOST = "lost"  # raise ControlLost


@dataclass(frozen=True, slots=True)
class Member:
    """What a rank knows of the agreement, in one life.

    Attributes:
        standing: what the round means to the rank.
        round: the newest round that it has heard of; 0 before the first.
        owes: whether it was asked and has not answered yet.
        place: behind which place its target is, if it is bound; its own place, if it is here.
        action: what it does; None unless it is acting.
        wish: what it wants from all ranks, until it is met; None for nothing.
        saved: the last round in which it has saved; 0 for none.
        is_connected: whether it has a connection.
    """

    standing: Standing = Standing.FREE
    round: int = 0
    owes: bool = False
    place: Place | None = None
    action: Action | None = None
    wish: Wish | None = None
    saved: int = 0
    is_connected: bool = False

    @property
    def is_free(self) -> bool:
        """Whether the main thread need not call `at_boundary`: it looks at nothing else."""
        return self.standing is Standing.FREE

    @property
    def timer(self) -> Timer | None:
        """The timer that is to run; None for none."""
        if self.standing is Standing.HELD:
            return Timer(Wait.HOLD, self.round)
        if self.standing is Standing.HERE and not self.is_connected:
            return Timer(Wait.OUTCOME, self.round)
        return None


Said = tuple[Up, ...]
Step = tuple[Member, Said]
_FINAL = (Standing.ACTING, Standing.LOST, Standing.ENDED)  # no message changes these


def connect(state: Member, seconds_left: float | None = None) -> Step:
    """The rank has a new connection: it says again what may have been lost with the last one.

    Args:
        state: the state before.
        seconds_left: of the rank's wish, now.
    """
    state = replace(state, is_connected=True)
    if state.standing is Standing.ENDED:
        return state, (Bye(),)
    said: list[Up] = [Saved(state.saved)] if state.saved else []
    if state.wish:
        said.append(replace(state.wish, seconds_left=seconds_left))
    if state.standing is Standing.HERE and state.place:
        said.append(Here(state.round, state.place))
    return state, tuple(said)


def disconnect(state: Member) -> Step:
    """The connection has ended: a rank that is not here leaves the round."""
    state = replace(state, is_connected=False)
    return (_free(state) if state.standing in (Standing.HELD, Standing.BOUND) else state), ()


def want(state: Member, wish: Wish) -> Step:
    """The rank wants all ranks to stop, or to save; a save adds nothing to a stop."""
    if state.wish and (state.wish.action, wish.action) == (Action.STOP, Action.SAVE):
        return state, ()
    return replace(state, wish=wish), (wish,)


def hear(state: Member, message: Down) -> Step:
    """The coordinator has said something. The caller then looks whether an answer is owed.

    The hold is raised by this, and an answer is owed: only afterwards is the rank's place read and
    passed to `answer`. The main thread writes its place and only then looks whether it is free. So
    either the answer has the newest place, or the main thread sees the hold.
    """
    if state.standing in _FINAL or message.round < state.round:
        return state, ()
    is_new = message.round > state.round
    if is_new:  # the coordinator begins a round only when the one before it is over
        state = replace(_free(state), round=message.round)
    return _take(state, message, is_new=is_new)


def _take(state: Member, message: Down, *, is_new: bool) -> Step:
    match message:
        case Ask() if is_new or state.standing is Standing.HELD:
            return replace(state, standing=Standing.HELD, owes=True), ()
        case Decide() if state.standing is Standing.HELD:
            return _bind(state, message), ()
        case Ask() | Decide():  # a rank that has left a round does not come back to it
            return state, (Late(message.round),) if state.is_free else ()
        case Go() if state.standing is Standing.HERE:
            return _act(state, message.action), ()
        case Cancel():
            return _free(state), ()
    return state, ()


def answer(state: Member, place: Place) -> Step:
    """Say the place that was read after the hold was raised, if that is still owed."""
    if not state.owes:
        return state, ()
    return replace(state, owes=False), (Answer(state.round, place),)


def expire(state: Member, timer: Timer) -> Step:
    """A timer has gone off; one that is not this state's any more changes nothing."""
    if timer != state.timer:
        return state, ()
    if timer.wait is Wait.HOLD:
        return _free(state), (Late(state.round),)
    return replace(state, standing=Standing.LOST), ()


def at_boundary(state: Member, place: Place, *, is_clean: bool) -> tuple[Member, Said, Order]:
    """What the main thread does at a boundary, after it has written its place.

    Args:
        state: the state before.
        place: the rank's place.
        is_clean: whether a checkpoint at this boundary loses nothing; the same on all ranks.
    """
    if state.standing is Standing.BOUND and state.place and is_clean and place > state.place:
        state = replace(_free(state), standing=Standing.HERE, place=place)
        return state, (Here(state.round, place),), Order.WAIT
    if state.standing is Standing.ACTING and state.action:
        return state, (), Order(state.action.value)
    return state, (), _ORDERS[state.standing]


def saved(state: Member) -> Step:
    """The main thread's part of the save has ended, whether it succeeded or not."""
    return replace(_free(state), saved=state.round), (Saved(state.round),)


def end(state: Member) -> Step:
    """The script has ended, or leaves."""
    return replace(_free(state), standing=Standing.ENDED), (Bye(),)


_ORDERS: Mapping[Standing, Order] = {
    Standing.FREE: Order.GO_ON,
    Standing.HELD: Order.WAIT,
    Standing.BOUND: Order.GO_ON,
    Standing.HERE: Order.WAIT,
    Standing.LOST: Order.LOST,
    Standing.ENDED: Order.GO_ON,
}


def _free(state: Member) -> Member:
    return replace(state, standing=Standing.FREE, owes=False, place=None, action=None)


def _bind(state: Member, decided: Decide) -> Member:
    return replace(_free(state), standing=Standing.BOUND, place=decided.place)


def _act(state: Member, action: Action) -> Member:
    """A save meets the wish for a save, and the other actions meet every wish."""
    is_met = action is not Action.SAVE or (state.wish and state.wish.action is Action.SAVE)
    wish = None if is_met else state.wish
    return replace(_free(state), standing=Standing.ACTING, action=action, wish=wish)
