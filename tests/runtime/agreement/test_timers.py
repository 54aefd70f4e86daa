"""How long each timer of the agreement runs."""

import math

import pytest

from runtime.control.agreement.timers import Timeouts, Wait, backoff


@pytest.mark.parametrize(
    ("wait", "until_deadline", "seconds"),
    [
        pytest.param(Wait.ANSWERS, None, 10, id="answers are waited for 10 s"),
        pytest.param(Wait.ANSWERS, 500.0, 10, id="whatever the deadline"),
        pytest.param(Wait.SAVE, 3.0, 60, id="the targets of a save for 60 s"),
        pytest.param(Wait.STOP, 500.0, 500, id="those of a stop until its deadline"),
        pytest.param(Wait.STOP, -1.0, 0, id="which may be over"),
        pytest.param(Wait.STOP, 0.0, 0, id="or be now"),
        pytest.param(Wait.STOP, None, 60, id="and for 60 s if there is none"),
        pytest.param(Wait.HOLD, None, 10, id="a hold ends after 10 s"),
        pytest.param(Wait.OUTCOME, None, 10, id="a rank that is cut off gives up after 10 s"),
    ],
)
def test_a_timer_runs_for(wait: Wait, until_deadline: float | None, seconds: float) -> None:
    assert Timeouts().seconds(wait, until_deadline) == seconds


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_is_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="hold must be positive and finite"):
        Timeouts(hold=value)


def test_the_backoff_doubles_from_1_s_to_60_s() -> None:
    assert [backoff(count) for count in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10**9) == 60
