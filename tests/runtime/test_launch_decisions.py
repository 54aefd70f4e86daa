"""What the launcher decides: exit codes, termination messages, and when signals are sent."""

import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.launch import deadlines, endings
from runtime.launch.deadlines import Deadlines
from runtime.launch.endings import Ending


def ends(*statuses: int) -> list[Ending]:
    return [Ending(str(rank), 100 + rank, status) for rank, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        pytest.param([], 0, id="no process"),
        pytest.param([0, 0], 0, id="all have succeeded"),
        pytest.param([0, 3], 3, id="one has failed"),
        pytest.param([4, 3], 4, id="the first failure"),
        pytest.param([143, 143], 143, id="all were stopped"),
        pytest.param([0, 143], 143, id="some were stopped, the others were done"),
        pytest.param([-15, 143], 143, id="SIGTERM itself is a stop"),
        pytest.param([143, 0, 7, -9], 7, id="a stop is no failure"),
        pytest.param([-9, 1], 137, id="killed, then an error that follows from it"),
        pytest.param([-11, -6], 139, id="the first signal"),
        pytest.param([255], 255, id="the largest code"),
    ],
)
def test_the_exit_code_of_a_pod(statuses: list[int], code: int) -> None:
    assert endings.exit_code(ends(*statuses)) == code
    assert endings.exit_code(ends(*statuses), has_stopped=True) == (code or 143)


@given(st.lists(st.sampled_from([0, 1, 3, 143, -15, -9, -11]), min_size=1, max_size=4))
def test_an_exit_code_is_never_better_than_the_processes(statuses: list[int]) -> None:
    code, found = endings.exit_code(ends(*statuses)), ends(*statuses)
    assert code in {ending.code for ending in found}
    assert (code == 0) == all(ending.code == 0 for ending in found)
    assert (code == 143) == (
        any(ending.code == 143 for ending in found)
        and all(ending.code in (0, 143) for ending in found)
    )


@pytest.mark.parametrize(
    ("noticed", "order"),
    [
        pytest.param([1, -9], [-9, 1], id="a kill is the cause of the other's error"),
        pytest.param([1, -11, -9], [-11, -9, 1], id="two of a kind keep their order"),
        pytest.param([-6, -9], [-9, -6], id="a kill is the cause of the other's abort"),
        pytest.param([1, -6], [-6, 1], id="an abort is the cause of the other's error"),
        pytest.param([-15, 1], [-15, 1], id="a stop is no cause"),
        pytest.param([2, 1], [2, 1], id="errors keep their order"),
    ],
)
def test_ends_that_are_noticed_together(noticed: list[int], order: list[int]) -> None:
    assert [ending.status for ending in endings.in_order(ends(*noticed))] == order


@pytest.mark.parametrize(
    ("status", "killed_by_us", "sentence"),
    [
        pytest.param(3, None, None, id="an exit: the end of the log says more"),
        pytest.param(
            -9, None, "killed by SIGKILL: the kernel does this if memory runs out", id="killed"
        ),
        pytest.param(-9, "late", "killed by SIGKILL: the launcher did this: late", id="by us"),
        pytest.param(
            -11, "late", "killed by SIGSEGV: native code has accessed invalid memory", id="crashed"
        ),
        pytest.param(-40, None, "killed by signal 40: ", id="a signal without a name"),
    ],
)
def test_the_words_for_a_process(
    status: int, killed_by_us: str | None, sentence: str | None
) -> None:
    words = endings.last_words(Ending("2", 7, status), killed_by_us=killed_by_us)
    assert (words and f"{words['exception']}: {words['message']}") == sentence
    assert words is None or words["rank"] == 2


@pytest.mark.parametrize(
    ("found", "due"),
    [
        pytest.param(Deadlines(), [], id="none"),
        pytest.param(
            deadlines.after_failure(0), [(6, 15), (10.5, 15), (11, 9)], id="after a failure"
        ),
        pytest.param(
            deadlines.after_notice(0, grace=30), [(27, 15), (28.5, 15), (29, 9)], id="a notice"
        ),
        pytest.param(
            deadlines.after_notice(0, grace=2),
            [(1, 15), (1.25, 15), (1.5, 9)],
            id="a short grace period",
        ),
        pytest.param(deadlines.after_notice(0, grace=0), [(0, 9)], id="no grace period"),
        pytest.param(deadlines.after_passing_on(0, grace=30), [(30, 9)], id="another signal"),
        pytest.param(deadlines.at_once(0), [(0, 9)], id="a second interrupt"),
        pytest.param(
            deadlines.of_the_rest(0, is_training=False),
            [(0, 15), (4.5, 15), (5, 9)],
            id="what is left",
        ),
        pytest.param(
            deadlines.after_notice(0, grace=30).and_also(deadlines.after_failure(2)),
            [(8, 15), (12.5, 15), (13, 9)],
            id="a failure during a stop",
        ),
        pytest.param(
            deadlines.after_notice(0, grace=2).and_also(
                deadlines.of_the_rest(0.5, is_training=False)
            ),
            [(0.5, 15), (1, 15), (1.5, 9)],
            id="what is left near the end of the grace period",
        ),
        pytest.param(
            deadlines.after_notice(0, grace=30).and_also(
                deadlines.of_the_rest(1, is_training=True)
            ),
            [(1, 15), (28.5, 15), (29, 9)],
            id="the training is left when a shell has died",
        ),
    ],
)
def test_when_signals_are_due(found: Deadlines, due: list[tuple[float, int]]) -> None:
    times, now = [], -1.0
    while (now := found.next_after(now)) < found.give_up_at:
        times.append((now, int(found.due(now) or 0)))
    assert times == due
    assert found.due(-1) is None
    terms = [at for at, number in due if number == signal.SIGTERM]
    assert [found.requests(at) for at in [-1.0, *terms]] == [*range(len(terms) + 1)]


@given(st.integers(0, 3600), st.integers(0, 3600))
def test_a_grace_period_is_used_and_kept(now: int, grace: int) -> None:
    found = deadlines.after_notice(now, grace=grace)
    assert now <= found.term_at <= found.kill_at <= now + grace
    assert found.term_at - now >= grace / 2


TIMES = st.one_of(st.integers(0, 5), st.just(math.inf))
SOME = st.builds(Deadlines, TIMES, TIMES, st.sampled_from("ab"))


@given(SOME, SOME, st.integers(0, 6))
def test_another_cause_never_delays_a_signal(one: Deadlines, other: Deadlines, now: int) -> None:
    strength = {None: 0, signal.SIGTERM: 1, signal.SIGKILL: 2}
    both = one.and_also(other).due(now)
    assert strength[both] == max(strength[one.due(now)], strength[other.due(now)])
