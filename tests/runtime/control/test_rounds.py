"""The coordinator's clocks: when it asks, how long it waits, and what a deadline changes."""

import math

import pytest

from runtime.control.agreement.coordinator import Sent
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
    Saved,
    Up,
    Wish,
)
from runtime.control.agreement.timers import Timeouts
from runtime.control.beat import Beat, Phase
from runtime.control.messages import Checkpointed
from runtime.control.place import Place
from runtime.control.progress.snapshot import Tier
from runtime.control.rounds import Rounds

TIMES = Timeouts(answers=10, save=60, hold=10, outcome=10, fresh=3)
STOP = Wish(Action.STOP, 30.0, "SIGTERM")


def beat() -> Beat:
    return Beat(place=Place(5, 1), phase=Phase.STEP)


def connected(size: int = 2, *, now: float = 0.0) -> Rounds:
    rounds = Rounds(size, TIMES)
    for rank in range(size):
        rounds.connect(rank, now)
        rounds.receive(rank, beat(), now)
    return rounds


def said(sent: Sent) -> list[Down]:
    """Return what all ranks hear, which is the same."""
    return list(dict.fromkeys(message for _, message in sent))


def all_say(rounds: Rounds, message: Up, now: float) -> list[Down]:
    sent = [rounds.receive(rank, message, now) for rank in range(rounds.state.size)]
    return said(sent[-1])


def to_the_end(rounds: Rounds, now: float) -> list[Down]:
    """Let all ranks answer and arrive; return the outcome."""
    number = rounds.state.round
    assert all_say(rounds, Answer(number, Place(5, 1)), now) == [Decide(number, Place(5, 1))]
    return all_say(rounds, Here(number, Place(6, 1)), now)


def test_all_ranks_are_asked_as_soon_as_one_wants_to_stop() -> None:
    rounds = connected()
    assert said(rounds.receive(1, STOP, 0.1)) == [Ask(1)]
    assert to_the_end(rounds, 0.2) == [Go(1, Action.STOP)]


def test_nobody_is_asked_before_all_are_connected_and_have_beaten() -> None:
    rounds = Rounds(2, TIMES)
    rounds.connect(0, 0.0)
    rounds.receive(0, beat(), 0.0)
    assert not rounds.receive(0, STOP, 0.0)
    assert not rounds.connect(1, 1.0)
    assert said(rounds.receive(1, beat(), 1.0)) == [Ask(1)]


def test_nobody_is_asked_while_the_last_beat_of_a_rank_is_old() -> None:
    rounds = connected(now=0.0)
    rounds.receive(0, beat(), 4.0)
    assert not rounds.receive(0, STOP, 4.0)
    assert said(rounds.receive(1, beat(), 5.0)) == [Ask(1)]


def test_a_missing_answer_cancels_the_round_after_the_timer() -> None:
    rounds = connected()
    rounds.receive(0, STOP, 0.0)
    rounds.receive(0, Answer(1, Place(5, 1)), 0.1)
    assert rounds.seconds_to_tick(1.0) == pytest.approx(9.0)
    assert not rounds.tick(9.9)
    assert said(rounds.tick(10.1)) == [Cancel(1)]


def test_rounds_that_are_cancelled_are_tried_again_later_and_later() -> None:
    rounds = connected()
    rounds.receive(0, Wish(Action.SAVE), 0.0)
    now, pauses = 0.0, []
    for number in range(1, 9):
        now += 10.1
        assert said(rounds.tick(now)) == [Cancel(number)]
        began = now
        while not any(isinstance(one, Ask) for one in said(rounds.tick(now))):
            now += 0.5
            for rank in range(2):
                rounds.beats[rank] = beat(), now
        pauses.append(now - began)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])


@pytest.mark.parametrize(
    ("saves", "action"),
    [
        pytest.param([(5.0, Tier.STORAGE)], Action.STOP, id="a short save fits"),
        pytest.param([(40.0, Tier.STORAGE)], Action.LEAVE, id="a long save does not fit"),
        pytest.param(
            [(40.0, Tier.STORAGE), (0.1, Tier.MEMORY)],
            Action.LEAVE,
            id="one to memory says nothing",
        ),
    ],
)
def test_there_is_time_to_save_if_the_last_save_took_less_than_what_is_left(
    saves: list[tuple[float, Tier]], action: Action
) -> None:
    rounds = connected()
    for seconds, tier in saves:
        rounds.receive(0, Checkpointed(step=3, seconds=seconds, tier=tier), 0.0)
    rounds.receive(1, STOP, 0.0)
    assert to_the_end(rounds, 1.0) == [Go(1, action)]


@pytest.mark.parametrize("seconds", [(30.0, 5.0), (5.0, 30.0)], ids=["last", "first"])
def test_the_earliest_deadline_counts(seconds: tuple[float, float]) -> None:
    rounds = connected()
    rounds.receive(0, Checkpointed(step=3, seconds=10.0), 0.0)
    for rank, left in enumerate(seconds):
        rounds.receive(rank, Wish(Action.STOP, left, "spot"), 0.0)
    assert to_the_end(rounds, 0.1) == [Go(1, Action.LEAVE)]


def test_an_earlier_deadline_shortens_the_timer_that_runs() -> None:
    rounds = connected()
    rounds.receive(0, STOP, 0.0)
    all_say(rounds, Answer(1, Place(5, 1)), 0.0)
    rounds.receive(1, Wish(Action.STOP, 5.0, "spot"), 1.0)
    assert rounds.seconds_to_tick(1.0) == pytest.approx(5.0)


def test_nothing_is_awaited_while_nobody_wants_anything() -> None:
    assert connected().seconds_to_tick(0.0) == math.inf


def test_a_rank_with_a_new_connection_must_beat_again_before_all_are_asked() -> None:
    rounds = connected()
    rounds.disconnect(1, 0.1)
    rounds.connect(1, 0.2)
    assert not rounds.receive(0, STOP, 0.2)
    assert said(rounds.receive(1, beat(), 0.3)) == [Ask(1)]


def test_a_stop_waits_at_its_target_until_the_deadline_and_a_save_for_its_timer() -> None:
    for wish, seconds in ((STOP, 30.0), (Wish(Action.SAVE), 60.0)):
        rounds = connected()
        rounds.receive(0, wish, 0.0)
        all_say(rounds, Answer(1, Place(5, 1)), 0.0)
        assert rounds.seconds_to_tick(0.0) == pytest.approx(seconds)


def test_a_notice_during_a_save_waits_for_it() -> None:
    rounds = connected()
    rounds.receive(0, Wish(Action.SAVE), 0.0)
    assert to_the_end(rounds, 0.1) == [Go(1, Action.SAVE)]
    assert not rounds.notice(30.0, 0.2)
    rounds.receive(0, Saved(1), 0.3)
    assert said(rounds.receive(1, Saved(1), 0.3)) == [Ask(2)]


def test_there_are_no_rounds_after_a_goodbye() -> None:
    rounds = connected()
    assert rounds.will_stop
    rounds.receive(0, Bye(), 0.0)
    assert not rounds.will_stop  # nobody waits for the others
    assert not rounds.notice(30.0, 0.1)
    assert not rounds.tick(100.0)


def test_ranks_that_stay_away_are_named_after_a_while() -> None:
    rounds = Rounds(3, TIMES)
    rounds.connect(1, 0.0)
    assert not rounds.absent(0.0)
    rounds.notice(100.0, 1.0)
    assert not rounds.absent(2.0)
    assert rounds.absent(33.0) == {0, 2}
    rounds.connect(0, 34.0)
    rounds.connect(2, 34.0)
    assert not rounds.absent(100.0)


def test_nobody_is_absent_after_a_goodbye() -> None:
    rounds = Rounds(2, TIMES)
    rounds.connect(0, 0.0)
    rounds.notice(100.0, 0.0)
    rounds.receive(0, Bye(), 1.0)
    assert not rounds.absent(1.0)
    assert not rounds.absent(99.0)
