"""A rank that is slow by itself is named after five windows, and no other one is."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control.beat import Beat, Phase
from runtime.control.place import Place
from runtime.control.verdicts import straggler
from runtime.control.verdicts.life import Home, Life
from runtime.control.verdicts.straggler import Measure, Slow, Stragglers


def beat(window: int, own: float | None) -> Beat:
    return Beat(place=Place(50 * window + 3), phase=Phase.STEP, own_seconds=own)


def after(
    windows: Sequence[Mapping[int, float | None]], state: Stragglers | None = None
) -> Stragglers:
    """The state after windows in which each rank had the given own time."""
    if state is None:  # all ranks are heard before the first window ends
        state = Stragglers().heard(Life(), {rank: beat(0, None) for rank in [*windows, {}][0]})
    begin = state.closed
    for number, window in enumerate(windows, begin + 1):
        for rank, own in window.items():  # each rank beats by itself, and twice a window
            state = state.heard(state.life, {rank: beat(number, own)})
            state = state.heard(state.life, {rank: beat(number, own)})
    return state


def slow(state: Stragglers) -> list[int]:
    return [one.rank for one in state.slow]


EVEN = dict.fromkeys(range(4), 0.1)
UNEVEN = EVEN | {2: 0.14}
CASES = {
    "nobody if all are alike": ([EVEN] * 20, []),
    "nobody before the fifth window": ([UNEVEN] * 4, []),
    "the slow one from the fifth window on": ([UNEVEN] * 5, [2]),
    "nobody if it is slow in four of five windows": ([*[UNEVEN] * 4, EVEN, *[UNEVEN] * 4], []),
    "nobody at 1.29 times the others": ([EVEN | {2: 0.129}] * 9, []),
    "still the slow one after four good windows": ([*[UNEVEN] * 5, *[EVEN] * 4], [2]),
    "nobody after five good windows": ([*[UNEVEN] * 5, *[EVEN] * 5], []),
    "the slow one of two": ([{0: 0.1, 1: 0.131}] * 5, [1]),
    "two slow ones, the slower first": ([EVEN | {1: 0.2, 2: 0.3, 4: 0.1}] * 5, [2, 1]),
    "nobody if there is only one rank": ([{0: 0.3}] * 9, []),
    "nobody without times": ([dict.fromkeys(range(4))] * 9, []),
    "nobody if the others take no time of their own": ([{0: 0.0, 1: 0.5}] * 9, []),
}


@pytest.mark.parametrize(("windows", "blamed"), CASES.values(), ids=CASES)
def test_blamed_is(windows: list[dict[int, float | None]], blamed: list[int]) -> None:
    assert slow(after(windows)) == blamed


def test_another_life_begins_with_nobody_blamed() -> None:
    state = after([UNEVEN] * 5)
    assert slow(state.begun(Life(0, 1))) == []
    begun = state.begun(Life(0, 1))
    assert begun.heard(Life(0, 0), {0: beat(9, 1.0), 1: beat(9, 0.1)}) == begun
    assert begun.lost(Life(0, 0), 1) == begun


def test_a_rank_that_is_not_heard_is_not_waited_for() -> None:
    state = after([UNEVEN] * 3)
    without = {rank: own for rank, own in UNEVEN.items() if rank != 1}
    stuck = after([without] * 5, state)
    assert slow(stuck) == []
    assert slow(after([without] * 5, state.lost(state.life, 1))) == [2]
    assert slow(after([without] * 5, state).lost(state.life, 2)) == []


def test_a_blamed_rank_that_is_lost_is_forgotten() -> None:
    state = after([UNEVEN] * 5)
    state = state.lost(state.life, 2)
    without = {rank: own for rank, own in EVEN.items() if rank != 2}
    assert slow(after([without] * 2, state)) == []


times = st.floats(1e-4, 10.0)


@given(st.dictionaries(st.integers(0, 99), times, min_size=2, max_size=40))
def test_the_medians_of_the_others(seconds: dict[int, float]) -> None:
    for rank, found in straggler._medians_of_others(seconds).items():
        others = [one for other, one in seconds.items() if other != rank]
        assert found == pytest.approx(statistics.median(others))


@given(
    st.lists(st.lists(times, min_size=4, max_size=4), max_size=25),
    st.integers(1, 6),
    st.floats(1.05, 3.0),
)
def test_who_is_blamed_was_slow_in_all_windows_of_a_row(
    rows: list[list[float]], windows: int, ratio: float
) -> None:
    """And who is no longer blamed was not, whatever the times are."""
    state = Stragglers(measure=Measure(windows=windows, ratio=ratio))
    state = state.heard(Life(), {rank: beat(0, None) for rank in range(4)})
    history: list[dict[int, bool]] = []
    for row in rows:
        was, own = set(slow(state)), dict(enumerate(row))
        state = after([own], state)
        history.append(
            {
                rank: one >= ratio * statistics.median(row[:rank] + row[rank + 1 :])
                for rank, one in own.items()
            }
        )
        last = history[-windows:]
        for rank in own:
            is_turned = len(last) == windows and all(one[rank] != (rank in was) for one in last)
            if (rank in slow(state)) != (rank in was):
                assert is_turned
    for rank in range(4):  # a streak up to the end is not overlooked
        if len(history) >= windows and all(one[rank] for one in history[-windows:]):
            assert rank in slow(state)


def test_it_is_said_in_a_sentence() -> None:
    one = Slow(rank=3, seconds=0.1314, others=0.1)
    assert one.told(Home(3, "n7")) == (
        "rank 3 (replica 3, node n7) slows the training down: 131.4 ms a step without waiting, "
        "100.0 ms on the other ranks"
    )
    assert one.as_dict(None)["node"] is None


@pytest.mark.parametrize("change", [{"steps": 0}, {"windows": 0}, {"ratio": 1.0}], ids=str)
def test_a_measure_is_checked(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        dataclasses.replace(Measure(), **change)  # type: ignore[arg-type]
