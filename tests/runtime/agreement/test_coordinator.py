"""What each event makes of the coordinator: rows of a state, an event, and what comes of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from runtime.control.agreement.coordinator import (
    Coordinator,
    Stage,
    Step,
    ask,
    connect,
    disconnect,
    expire,
    receive,
)
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

BOTH = frozenset({0, 1})
STOP, SAVE = Wish(Action.STOP), Wish(Action.SAVE)


def told(state: Coordinator, *said: tuple[int, Up], has_time_to_save: bool = True) -> Step:
    """The step of the last of some messages."""
    sent: tuple[tuple[int, Down], ...] = ()
    for rank, message in said:
        state, sent = receive(state, rank, message, has_time_to_save=has_time_to_save)
    return state, sent


def here(rank: int, steps: int = 4) -> tuple[int, Up]:
    return rank, Here(1, Place(steps))


IDLE = Coordinator(2, connected=BOTH)
WANTED = told(IDLE, (0, STOP))[0]
ASKED = ask(WANTED)[0]
DECIDED = told(ASKED, (0, Answer(1, Place(3))), (1, Answer(1, Place(2))))[0]
SAVING = told(replace(DECIDED, wanted=Action.SAVE), here(0), here(1))[0]
OVER = told(DECIDED, here(0), here(1))[0]


def test_a_stop_goes_from_a_wish_to_go() -> None:
    assert WANTED.may_ask
    assert ask(WANTED)[1] == ((0, Ask(1)), (1, Ask(1)))
    step = told(ASKED, (0, Answer(1, Place(3))), (1, Answer(1, Place(2))))
    assert step[1] == ((0, Decide(1, Place(3))), (1, Decide(1, Place(3))))
    state, sent = told(DECIDED, here(1), here(0))
    assert sent == ((0, Go(1, Action.STOP)), (1, Go(1, Action.STOP)))
    assert state.is_over
    assert not state.may_ask


def test_a_save_is_over_when_all_have_saved_and_another_may_follow() -> None:
    assert SAVING.word == Go(1, Action.SAVE)
    state, _ = told(SAVING, (0, Saved(1)))
    assert state.stage is Stage.SAVING
    state, sent = told(state, (1, Saved(1)))
    assert (state.stage, state.wanted, sent) == (Stage.IDLE, None, ())
    state, _ = told(state, (0, SAVE))
    assert ask(state)[1] == ((0, Ask(2)), (1, Ask(2)))


def test_the_only_rank_of_a_job_agrees_with_itself() -> None:
    state, _ = receive(Coordinator(1, connected=frozenset({0})), 0, STOP)
    state, _ = ask(state)
    state, _ = receive(state, 0, Answer(1, Place(3)))
    state, sent = receive(state, 0, Here(1, Place(4)))
    assert sent == ((0, Go(1, Action.STOP)),)
    state, _ = receive(state, 0, Bye())
    assert state.is_alone


@pytest.mark.parametrize(
    ("state", "event", "stage", "sent"),
    [
        pytest.param(IDLE, ask, Stage.IDLE, None, id="nothing is asked that nobody wants"),
        pytest.param(
            disconnect(WANTED, 1)[0],
            ask,
            Stage.IDLE,
            None,
            id="nothing is asked while a rank has no connection",
        ),
        pytest.param(ASKED, ask, Stage.ASKED, None, id="there is one round at a time"),
        pytest.param(
            told(WANTED, (1, Bye()))[0],
            ask,
            Stage.OVER,
            None,
            id="nothing is asked when a rank has ended",
        ),
        pytest.param(
            ASKED,
            lambda state: told(state, (0, Answer(1, Place(3))), (0, Answer(1, Place(3)))),
            Stage.ASKED,
            None,
            id="a rank that answers twice counts once",
        ),
        pytest.param(
            ASKED,
            lambda state: told(
                state, (0, Answer(1, Place(3))), (0, Answer(1, Place(5))), (1, Answer(1, Place(4)))
            ),
            Stage.DECIDED,
            Decide(1, Place(5)),
            id="the furthest of all places is decided",
        ),
        pytest.param(
            replace(ASKED, round=2),
            lambda state: told(state, (0, Answer(1, Place(3))), (1, Answer(2, Place(3)))),
            Stage.ASKED,
            None,
            id="an answer of another round does not count",
        ),
        pytest.param(
            ASKED,
            lambda state: told(state, (0, Answer(1, Place(3))), (1, Answer(2, Place(3)))),
            Stage.ASKED,
            None,
            id="nor does one of a round that was not begun",
        ),
        pytest.param(
            ASKED,
            lambda state: told(state, (0, Late(1))),
            Stage.IDLE,
            Cancel(1),
            id="a rank that is late with its answer cancels the round",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, (0, Late(1))),
            Stage.IDLE,
            Cancel(1),
            id="a rank that is late at its target cancels the round",
        ),
        pytest.param(
            SAVING,
            lambda state: told(state, (0, Late(1))),
            Stage.SAVING,
            None,
            id="nobody is late when all were told to go",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, here(0, 4), here(1, 5)),
            Stage.IDLE,
            Cancel(1),
            id="ranks at different places cancel the round",
        ),
        pytest.param(
            ASKED,
            lambda state: told(state, here(0), here(1)),
            Stage.ASKED,
            None,
            id="nobody is here before a place is decided",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, (0, Answer(1, Place(9))), (1, Answer(1, Place(9)))),
            Stage.DECIDED,
            None,
            id="an answer that comes again later is not one that the rank is here",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, here(0), here(0)),
            Stage.DECIDED,
            None,
            id="a rank that is here twice counts once",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, here(0), here(1), has_time_to_save=False),
            Stage.OVER,
            Go(1, Action.LEAVE),
            id="all leave where a stop has no time for a save",
        ),
        pytest.param(
            replace(DECIDED, wanted=Action.SAVE),
            lambda state: told(state, here(0), (1, STOP), here(1)),
            Stage.OVER,
            Go(1, Action.STOP),
            id="a notice that comes before go turns a save into a stop",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, (0, SAVE), here(0), here(1)),
            Stage.OVER,
            Go(1, Action.STOP),
            id="a stop stays one when a save is wanted",
        ),
        pytest.param(
            SAVING,
            lambda state: ask(told(state, (1, STOP), (0, Saved(1)), (1, Saved(1)))[0]),
            Stage.ASKED,
            Ask(2),
            id="a notice in a save waits for it",
        ),
        pytest.param(
            SAVING,
            lambda state: ask(told(state, (0, SAVE), (0, Saved(1)), (1, Saved(1)))[0]),
            Stage.ASKED,
            Ask(2),
            id="a save that is wanted in a save is not lost",
        ),
        pytest.param(
            ASKED,
            lambda state: told(state, (1, Bye())),
            Stage.OVER,
            Cancel(1),
            id="a rank that ends before it has answered cancels the round for good",
        ),
        pytest.param(
            DECIDED,
            lambda state: told(state, (1, Bye())),
            Stage.OVER,
            Cancel(1),
            id="a rank that ends before its target cancels the round for good",
        ),
        pytest.param(
            SAVING,
            lambda state: told(state, (1, Bye())),
            Stage.OVER,
            None,
            id="a rank that ends in a save cancels nothing, and there is no round afterwards",
        ),
        pytest.param(
            ASKED,
            lambda state: expire(state, Timer(Wait.ANSWERS, 1)),
            Stage.IDLE,
            Cancel(1),
            id="an answer that does not come cancels the round",
        ),
        pytest.param(
            DECIDED,
            lambda state: expire(state, Timer(Wait.STOP, 1)),
            Stage.IDLE,
            Cancel(1),
            id="a target that is not reached before the deadline cancels the round",
        ),
        pytest.param(
            DECIDED,
            lambda state: expire(state, Timer(Wait.ANSWERS, 1)),
            Stage.DECIDED,
            None,
            id="a timer of the stage before changes nothing",
        ),
        pytest.param(
            replace(ASKED, round=2),
            lambda state: expire(state, Timer(Wait.ANSWERS, 1)),
            Stage.ASKED,
            None,
            id="a timer of the round before changes nothing",
        ),
    ],
)
def test_an_event(
    state: Coordinator,
    event: Callable[[Coordinator], Step],
    stage: Stage,
    sent: Down | None,
) -> None:
    after, messages = event(state)
    assert after.stage is stage
    assert messages == (((0, sent), (1, sent)) if sent else ())


@pytest.mark.parametrize(
    ("state", "repeated"),
    [
        pytest.param(IDLE, (), id="nothing before the first round"),
        pytest.param(ASKED, ((1, Ask(1)),), id="what it was asked"),
        pytest.param(DECIDED, ((1, Decide(1, Place(3))),), id="what was decided"),
        pytest.param(SAVING, ((1, Go(1, Action.SAVE)),), id="the save"),
        pytest.param(OVER, ((1, Go(1, Action.STOP)),), id="the stop"),
        pytest.param(
            expire(ASKED, Timer(Wait.ANSWERS, 1))[0], ((1, Cancel(1)),), id="that it was cancelled"
        ),
        pytest.param(
            told(OVER, (0, Bye()))[0], ((1, Go(1, Action.STOP)),), id="the stop, when others left"
        ),
    ],
)
def test_a_rank_that_connects_again_hears(
    state: Coordinator, repeated: tuple[tuple[int, Down], ...]
) -> None:
    state, _ = disconnect(state, 1)
    assert connect(state, 1)[1] == repeated


def test_a_rank_that_connects_counts_as_connected() -> None:
    state, _ = disconnect(WANTED, 1)
    assert not state.may_ask
    assert connect(state, 1)[0].may_ask


def test_nothing_is_sent_to_a_rank_without_a_connection() -> None:
    state, _ = disconnect(ASKED, 1)
    assert expire(state, Timer(Wait.ANSWERS, 1))[1] == ((0, Cancel(1)),)


@pytest.mark.parametrize(
    ("state", "timer"),
    [
        pytest.param(IDLE, None, id="none without a round"),
        pytest.param(ASKED, Timer(Wait.ANSWERS, 1), id="for answers"),
        pytest.param(DECIDED, Timer(Wait.STOP, 1), id="for the targets of a stop"),
        pytest.param(
            replace(DECIDED, wanted=Action.SAVE),
            Timer(Wait.SAVE, 1),
            id="for the targets of a save",
        ),
        pytest.param(SAVING, None, id="none for the save itself"),
        pytest.param(OVER, None, id="none when all is over"),
    ],
)
def test_the_timer_that_runs(state: Coordinator, timer: Timer | None) -> None:
    assert state.timer == timer


def test_cancelled_rounds_are_counted_until_a_save() -> None:
    state = IDLE
    state, _ = receive(state, 0, SAVE)
    for number in (1, 2, 3):
        state, _ = ask(state)
        state, _ = receive(state, 1, Late(number))
        assert state.cancelled == number
    state, _ = ask(state)
    state, _ = told(state, (0, Answer(4, Place())), (1, Answer(4, Place())))
    state, _ = told(state, (0, Here(4, Place(1))), (1, Here(4, Place(1))))
    assert state.cancelled == 0


def test_the_ranks_that_are_waited_for_are_known() -> None:
    assert ASKED.awaited == {0, 1}
    assert told(ASKED, (0, Answer(1, Place())))[0].awaited == {1}
    assert told(DECIDED, here(1))[0].awaited == {0}


def test_the_host_may_leave_when_all_have_said_that_they_end() -> None:
    state, _ = told(OVER, (0, Bye()))
    assert not state.is_alone
    state, _ = told(state, (1, Bye()))
    assert state.is_alone


def test_a_job_has_a_rank() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        Coordinator(0)
