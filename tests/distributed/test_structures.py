"""Processes that send structures which differ are told which one does, and in what."""

import functools
from typing import Any

import pytest

from tests.distributed.structures import DIFFERENT
from tests.distributed.world import told_by_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

WORLD = 3


@functools.cache
def found() -> list[dict[str, Any]]:
    return told_by_ranks("structures.py", WORLD)


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_structure_that_differs_is_an_error_that_names_the_rank_and_what_differs(
    case: str,
) -> None:
    _, others, odd = DIFFERENT[case]
    for rank, errors in enumerate(found()):
        error = errors[case]
        if case.startswith("broadcast") and rank != 1:
            assert error is None  # they have what the sender has
            continue
        name = case.partition(":")[0].replace("gather_for_metrics", "gather")
        name = {"LocalSGD": "reduce", "pad_across_processes": "gather"}.get(name, name)
        assert error.startswith(f"`{name}`, collective "), error
        own, told = (line for line in error.splitlines() if line.startswith("  - "))
        assert own.startswith("  - ranks 0, 2: "), error
        assert told.startswith("  - rank 1: "), error
        assert (others in own, odd in told) == (True, True), error


@pytest.mark.parametrize(
    ("number", "right"),
    [
        pytest.param(0, [[0.0, -1.0], [1.0, -1.0], [2.0, -1.0]], id="a conjugate is gathered"),
        pytest.param(1, [-1.0] * WORLD, id="a lazy negative is gathered"),
        pytest.param(2, [[0.0, -1.0], [1.0, -1.0], [2.0, -1.0]], id="a conjugate by itself"),
        pytest.param(3, [[1.0, 1.0]] * 3, id="an expanded tensor is broadcast"),
        pytest.param(5, [[0.0, 1.0, 2.0]] * 2, id="keys that each process writes otherwise"),
    ],
)
def test_any_view_of_a_tensor_can_be_sent(number: int, right: Any) -> None:
    for rank in found():
        assert rank["alike"][number] == right


def test_an_expanded_tensor_is_not_written_to() -> None:
    assert [rank["alike"][4] for rank in found()] == [[[float(r)] * 2] * 3 for r in range(WORLD)]
