from collections.abc import Callable

import pytest

from acceleratedjob.kube.health import Pulse

Life = Callable[[Pulse, list[float]], None]


def nothing(_pulse: Pulse, clock: list[float]) -> None:
    clock[0] = 100


def heard_in_time(pulse: Pulse, clock: list[float]) -> None:
    clock[0] = 60
    for path in ("/pods", "/jobs"):
        pulse.hear(path)
    clock[0] = 150


def one_of_two(pulse: Pulse, clock: list[float]) -> None:
    clock[0] = 60
    pulse.complete("/pods")
    clock[0] = 100


def another_path(pulse: Pulse, clock: list[float]) -> None:
    clock[0] = 60
    pulse.hear("/version")
    clock[0] = 100


@pytest.mark.parametrize(
    ("life", "dead", "unlisted"),
    [
        pytest.param(lambda _pulse, _clock: None, [], ["/jobs", "/pods"], id="just begun"),
        pytest.param(
            nothing, ["/jobs", "/pods"], ["/jobs", "/pods"], id="never heard of: as dead as any"
        ),
        pytest.param(heard_in_time, [], ["/jobs", "/pods"], id="heard of, and not too long ago"),
        pytest.param(one_of_two, ["/jobs"], ["/jobs"], id="the live one does not hide the dead"),
        pytest.param(
            another_path, ["/jobs", "/pods"], ["/jobs", "/pods"], id="an answer to something else"
        ),
    ],
)
def test_which_watches_are_dead_and_which_have_not_begun(
    life: Life, dead: list[str], unlisted: list[str]
) -> None:
    clock = [0.0]
    pulse = Pulse(["/pods", "/jobs"], silence=90, clock=lambda: clock[0])
    life(pulse, clock)
    assert (sorted(pulse.dead), pulse.unlisted) == (dead, unlisted)


@pytest.mark.parametrize("silence", [3, 6, 90, 600])
def test_a_quiet_watch_is_begun_anew_in_time(silence: float) -> None:
    pulse = Pulse([], silence=silence)
    assert 1 <= pulse.watch_seconds < silence
