"""What torch's flight recorder says becomes the last collective of each process group."""

from typing import Any

import pytest

from runtime.control.verdicts.report import Position
from runtime.loop import flight


def entry(
    number: int, *, retired: bool = True, group: str = "0", description: str = "default_pg"
) -> dict[str, Any]:
    """An entry as torch 2.15 writes it, without what nobody reads."""
    return {
        "collective_seq_id": number,
        "is_p2p": False,
        "process_group": [group, description],
        "profiling_name": "gloo:all_reduce",
        "retired": retired,
        "state": "scheduled",
    }


def at(number: int, group: str = "0", *, waits: bool = False) -> Position:
    return Position(
        group=f"gloo:{group}",
        number=number,
        operation="all_reduce",
        is_waiting=waits,
        is_of_all=group == "0",
    )


@pytest.mark.parametrize(
    ("entries", "positions"),
    [
        pytest.param([], (), id="none without entries"),
        pytest.param([entry(1), entry(2)], (at(2),), id="the last one counts"),
        pytest.param([entry(1), entry(2, retired=False)], (at(2, waits=True),), id="it may wait"),
        pytest.param(
            [entry(4), entry(1, group="7", description="mesh", retired=False)],
            (at(1, "7", waits=True), at(4)),
            id="each group has its own, those that wait first",
        ),
        pytest.param([entry(3) | {"is_p2p": True}], (), id="sends and receives do not count"),
        pytest.param([entry(3, retired=False) | {"state": "completed"}], (at(3),), id="it may end"),
        pytest.param([{"other": 1}, 3, entry(3)], (at(3),), id="unknown entries are skipped"),
    ],
)
def test_positions(entries: list[Any], positions: tuple[Position, ...]) -> None:
    assert flight.positions(entries) == positions


def test_there_is_a_report_without_a_world() -> None:
    told = flight.report()
    assert told.positions == ()
    assert told.stack
