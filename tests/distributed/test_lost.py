"""When a process does not come, the others say which one, to what, and where it is."""

from pathlib import Path

import pytest

from acceleratedjob.local.process import free_port
from tests.distributed.lost import LOST
from tests.distributed.world import environment, forked

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

PROGRAM = str(Path(__file__).with_name("lost.py"))
WORLD = 3


@pytest.mark.parametrize(
    ("how", "operation", "where"),
    [
        pytest.param(
            "stands still",
            "gather_object",
            ["rank 1 is at ", "lost.py:", "(stand_still)"],
            id="it lives, and does something else",
        ),
        pytest.param(
            "dies",
            "backward",
            ["rank 1 does not answer: its process has ended"],
            id="it has died while gradients were reduced",
        ),
    ],
)
def test_who_is_missing_is_named(how: str, operation: str, where: list[str]) -> None:
    port = free_port()
    seconds = {"ACCELERATE_COLLECTIVE_TIMEOUT": "15"} if how == "stands still" else {}
    argv = [PROGRAM, how, operation]
    ranks = forked(*((argv, environment(rank, WORLD, port) | seconds) for rank in range(WORLD)))
    said = [done.out + done.err for done in ranks]
    assert not any(done.code for done in ranks), said
    for rank in {*range(WORLD)} - {LOST}:
        begin = f"MissingProcesses: `{operation}`, collective 4 of rank {rank}"
        _, _, error = said[rank].partition(begin)
        assert "1 of 3 processes are missing" in error
        assert [part for part in where if part not in error] == [], error
        if how == "stands still":
            waited = f"s in `{operation}`, its collective 4; missing: rank 1 is "
            assert waited in said[rank]
