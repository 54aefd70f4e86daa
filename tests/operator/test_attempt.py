"""An attempt is a value: its number, and how many replicas and processes it has."""

import pytest

from acceleratedjob.api.attempt import Attempt
from acceleratedjob.api.status import Status
from tests.operator.builders import spec

DECIDED = Status(attempt=3, size=2, processes_per_replica=4)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(Status(), Attempt(0, 5, 1), id="nothing is decided: what the spec asks for"),
        pytest.param(Status(attempt=3), Attempt(3, 5, 1), id="nor is it between two attempts"),
        pytest.param(DECIDED, Attempt(3, 2, 4), id="decided: the spec may have changed"),
        pytest.param(Status(size=2), Attempt(0, 2, 1), id="decided by one that counted no process"),
    ],
)
def test_the_current_attempt(status: Status, expected: Attempt) -> None:
    assert Attempt.current(spec(replicas=5), status) == expected


def test_its_world() -> None:
    assert Attempt(0, 3, 8).world_size == 24
    assert Attempt.full(spec(replicas=3, processesPerReplica=2), 7) == Attempt(7, 3, 2)


@pytest.mark.parametrize("numbers", [(-1, 1, 1), (0, 0, 1), (0, 1, 0)], ids=str)
def test_what_is_none(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="an attempt must have a number >= 0, replicas and"):
        Attempt(*numbers)
