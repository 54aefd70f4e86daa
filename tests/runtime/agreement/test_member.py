"""What each event makes of a member: rows of a state, an event, and what comes of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from runtime.control.agreement import member
from runtime.control.agreement.member import Member, Order, Standing, Step, at_boundary, hear
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

STOP = Wish(Action.STOP, 30.0, "SIGTERM")
SAVE = Wish(Action.SAVE)
HOLD, OUTCOME = Timer(Wait.HOLD, 1), Timer(Wait.OUTCOME, 1)

FREE = Member(is_connected=True)
HELD = hear(FREE, Ask(1))[0]
ANSWERED = member.answer(HELD, Place(3))[0]
BOUND = hear(ANSWERED, Decide(1, Place(3)))[0]
HERE = at_boundary(BOUND, Place(4), is_clean=True)[0]
CUT_OFF = member.disconnect(HERE)[0]
LOST = member.expire(CUT_OFF, OUTCOME)[0]
STOPPING = hear(HERE, Go(1, Action.STOP))[0]
SAVING = hear(HERE, Go(1, Action.SAVE))[0]
LEFT = member.expire(ANSWERED, HOLD)[0]
ENDED = member.end(FREE)[0]


def hears(message: Down) -> Callable[[Member], Step]:
    return lambda state: hear(state, message)


def times(timer: Timer) -> Callable[[Member], Step]:
    return lambda state: member.expire(state, timer)


def answers(state: Member) -> Step:
    return member.answer(state, Place(3))


def test_an_answer_is_owed_when_the_hold_is_raised_and_has_the_place_read_afterwards() -> None:
    state, said = hear(FREE, Ask(1))
    assert (state.standing, state.owes, said) == (Standing.HELD, True, ())
    assert not state.is_free  # what the main thread tests before its place is read
    state, said = member.answer(state, Place(3))
    assert (state.owes, said) == (False, (Answer(1, Place(3)),))


@pytest.mark.parametrize(
    ("state", "event", "standing", "said"),
    [
        pytest.param(HELD, answers, Standing.HELD, (Answer(1, Place(3)),), id="answers"),
        pytest.param(ANSWERED, answers, Standing.HELD, (), id="answers once"),
        pytest.param(
            hear(ANSWERED, Ask(1))[0],
            answers,
            Standing.HELD,
            (Answer(1, Place(3)),),
            id="answers again what is asked again",
        ),
        pytest.param(
            member.expire(HELD, HOLD)[0],
            answers,
            Standing.FREE,
            (),
            id="owes no answer in a round that it has left",
        ),
        pytest.param(ANSWERED, times(HOLD), Standing.FREE, (Late(1),), id="leaves a round, late"),
        pytest.param(BOUND, times(HOLD), Standing.BOUND, (), id="has no hold once it is bound"),
        pytest.param(HERE, times(HOLD), Standing.HERE, (), id="has no hold at its target"),
        pytest.param(
            ANSWERED, times(Timer(Wait.HOLD, 7)), Standing.HELD, (), id="ignores another's timer"
        ),
        pytest.param(HERE, times(OUTCOME), Standing.HERE, (), id="waits while it is connected"),
        pytest.param(CUT_OFF, times(OUTCOME), Standing.LOST, (), id="is lost if it hears nothing"),
        pytest.param(LEFT, hears(Ask(1)), Standing.FREE, (Late(1),), id="does not come back"),
        pytest.param(
            LEFT, hears(Decide(1, Place(3))), Standing.FREE, (Late(1),), id="is late for its place"
        ),
        pytest.param(LEFT, hears(Ask(2)), Standing.HELD, (), id="takes part in the next round"),
        pytest.param(
            ANSWERED, hears(Decide(1, Place(3))), Standing.BOUND, (), id="is bound to a place"
        ),
        pytest.param(
            HELD, hears(Decide(1, Place(3))), Standing.BOUND, (), id="is bound, answered or not"
        ),
        pytest.param(BOUND, hears(Decide(1, Place(3))), Standing.BOUND, (), id="is bound once"),
        pytest.param(HERE, hears(Ask(1)), Standing.HERE, (), id="stays at its target, asked again"),
        pytest.param(
            HERE, hears(Decide(1, Place(3))), Standing.HERE, (), id="stays, told its place again"
        ),
        pytest.param(HELD, hears(Cancel(1)), Standing.FREE, (), id="is let go while it holds"),
        pytest.param(BOUND, hears(Cancel(1)), Standing.FREE, (), id="is let go while it is bound"),
        pytest.param(HERE, hears(Cancel(1)), Standing.FREE, (), id="is let go at its target"),
        pytest.param(
            HERE, hears(Cancel(2)), Standing.FREE, (), id="knows by a later round that it may go on"
        ),
        pytest.param(
            HERE, hears(Ask(2)), Standing.HELD, (), id="knows by a later question that it is over"
        ),
        pytest.param(
            BOUND, hears(Decide(2, Place(9))), Standing.FREE, (Late(2),), id="joins no round midway"
        ),
        pytest.param(
            replace(HERE, round=2), hears(Cancel(1)), Standing.HERE, (), id="ignores an old round"
        ),
        pytest.param(HERE, hears(Go(1, Action.STOP)), Standing.ACTING, (), id="goes"),
        pytest.param(
            BOUND, hears(Go(1, Action.STOP)), Standing.BOUND, (), id="goes from its target"
        ),
        pytest.param(STOPPING, hears(Cancel(1)), Standing.ACTING, (), id="stops once told to"),
        pytest.param(STOPPING, hears(Ask(2)), Standing.ACTING, (), id="stops, whatever comes"),
        pytest.param(LOST, hears(Go(1, Action.STOP)), Standing.LOST, (), id="is lost for good"),
        pytest.param(SAVING, member.saved, Standing.FREE, (Saved(1),), id="has saved"),
        pytest.param(HELD, member.disconnect, Standing.FREE, (), id="leaves when it is cut off"),
        pytest.param(BOUND, member.disconnect, Standing.FREE, (), id="leaves, bound and cut off"),
        pytest.param(
            HERE, member.disconnect, Standing.HERE, (), id="stays here when it is cut off"
        ),
        pytest.param(SAVING, member.disconnect, Standing.ACTING, (), id="saves when it is cut off"),
        pytest.param(BOUND, member.end, Standing.ENDED, (Bye(),), id="says that it ends"),
        pytest.param(
            ENDED, hears(Ask(1)), Standing.ENDED, (), id="hears nothing when it has ended"
        ),
    ],
)
def test_a_rank(
    state: Member, event: Callable[[Member], Step], standing: Standing, said: tuple[Up, ...]
) -> None:
    after, messages = event(state)
    assert (after.standing, messages) == (standing, said)


@pytest.mark.parametrize(
    ("state", "place", "is_clean", "order"),
    [
        pytest.param(FREE, 4, True, Order.GO_ON, id="it goes on if nothing was asked"),
        pytest.param(HELD, 4, True, Order.WAIT, id="it holds at any boundary when it was asked"),
        pytest.param(HELD, 3, False, Order.WAIT, id="it holds at one that is not clean, too"),
        pytest.param(BOUND, 3, True, Order.GO_ON, id="the place itself is not behind it"),
        pytest.param(BOUND, 4, False, Order.GO_ON, id="a boundary that is not clean is no target"),
        pytest.param(BOUND, 4, True, Order.WAIT, id="it waits at the first clean one behind it"),
        pytest.param(HERE, 4, True, Order.WAIT, id="only the outcome moves it there"),
        pytest.param(STOPPING, 4, True, Order.STOP, id="it stops"),
        pytest.param(SAVING, 4, True, Order.SAVE, id="it saves"),
        pytest.param(
            hear(HERE, Go(1, Action.LEAVE))[0], 4, True, Order.LEAVE, id="it leaves without a save"
        ),
        pytest.param(LOST, 4, True, Order.LOST, id="it fails if there is no outcome"),
        pytest.param(ENDED, 4, True, Order.GO_ON, id="nothing holds what has ended"),
    ],
)
def test_at_a_boundary(state: Member, place: int, is_clean: bool, order: Order) -> None:
    after, said, ordered = at_boundary(state, Place(place), is_clean=is_clean)
    assert ordered is order
    arrives = state is BOUND and order is Order.WAIT
    assert said == ((Here(1, Place(place)),) if arrives else ())
    assert (after == state) is not arrives


def test_an_epoch_that_begins_is_a_place_behind_its_last_step() -> None:
    _, _, order = at_boundary(BOUND, Place(3, 1), is_clean=True)
    assert order is Order.WAIT


@pytest.mark.parametrize(
    ("state", "said"),
    [
        pytest.param(FREE, (), id="nothing"),
        pytest.param(member.want(FREE, STOP)[0], (replace(STOP, seconds_left=9.0),), id="a notice"),
        pytest.param(CUT_OFF, (Here(1, Place(4)),), id="that it is here"),
        pytest.param(member.saved(SAVING)[0], (Saved(1),), id="that it has saved"),
        pytest.param(ENDED, (Bye(),), id="that it ends"),
        pytest.param(STOPPING, (), id="nothing while it acts"),
    ],
)
def test_a_rank_that_connects_again_says(state: Member, said: tuple[Up, ...]) -> None:
    after, messages = member.connect(member.disconnect(state)[0], 9.0)
    assert messages == said
    assert after.is_connected


@pytest.mark.parametrize(
    ("wish", "action", "left"),
    [
        pytest.param(STOP, Action.STOP, None, id="a stop meets a notice"),
        pytest.param(STOP, Action.LEAVE, None, id="to leave meets a notice"),
        pytest.param(STOP, Action.SAVE, STOP, id="a save does not meet a notice"),
        pytest.param(SAVE, Action.SAVE, None, id="a save meets the wish for one"),
        pytest.param(SAVE, Action.STOP, None, id="a stop saves, too"),
    ],
)
def test_a_wish_stands_until_it_is_met(wish: Wish, action: Action, left: Wish | None) -> None:
    state, said = member.want(HERE, wish)
    assert said == (wish,)
    assert hear(state, Cancel(1))[0].wish == wish
    assert hear(state, Go(1, action))[0].wish == left


def test_a_save_adds_nothing_to_a_notice_and_a_notice_replaces_a_save() -> None:
    state, _ = member.want(FREE, SAVE)
    state, said = member.want(state, STOP)
    assert (state.wish, said) == (STOP, (STOP,))
    state, said = member.want(state, SAVE)
    assert (state.wish, said) == (STOP, ())


@pytest.mark.parametrize(
    ("state", "timer"),
    [
        pytest.param(FREE, None, id="none without a round"),
        pytest.param(HELD, HOLD, id="for the hold"),
        pytest.param(BOUND, None, id="none on the way to its target"),
        pytest.param(HERE, None, id="none while the coordinator can be heard"),
        pytest.param(CUT_OFF, OUTCOME, id="for the outcome, without a connection"),
        pytest.param(SAVING, None, id="none in the save"),
    ],
)
def test_the_timer_that_runs(state: Member, timer: Timer | None) -> None:
    assert state.timer == timer
