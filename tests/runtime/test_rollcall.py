import pytest

from runtime.config.settings import Settings
from runtime.world.roll_call import Collective, Place


def test_an_error_that_is_no_transports_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), Collective("gather"):
        raise RuntimeError("shapes differ")
    assert Collective.inside is None


def test_a_collective_within_another_is_where_a_process_is() -> None:
    with Collective("pad_across_processes") as outer:
        with Collective("gather") as inner:
            assert Collective.inside is inner
            assert inner.number == outer.number + 1
        assert Collective.inside is outer


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (Place("", 0, "train.py:7 (main)"), "at train.py:7 (main)"),
        (
            Place("reduce", 4, "train.py:7 (main)"),
            "in `reduce`, its collective 4, at train.py:7 (main)",
        ),
    ],
)
def test_a_place_is_said_in_words(place: Place, sentence: str) -> None:
    assert str(place) == sentence


@pytest.mark.parametrize("seconds", ["0", "-3"])
def test_a_time_without_length_is_an_error(seconds: str) -> None:
    with pytest.raises(ValueError, match="ACCELERATE_COLLECTIVE_TIMEOUT must be at least 1"):
        Settings.from_env({"ACCELERATE_COLLECTIVE_TIMEOUT": seconds})
