"""What trains one model in all processes is taken, and what would train several is refused."""

import functools
from typing import Any

import pytest

from tests.distributed.averaging import ILLEGAL, LEGAL, TOO_LATE
from tests.distributed.world import told_by_ranks

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

WORLD = 2


@functools.cache
def found() -> list[dict[str, Any]]:
    return told_by_ranks("averaging.py", WORLD)


@pytest.mark.parametrize("case", LEGAL)
def test_what_trains_the_same_weights_in_all_processes_is_taken(case: str) -> None:
    first, second = (rank[case] for rank in found())
    assert isinstance(first, list), first
    assert first == second


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_would_train_other_weights_in_each_process_is_refused(case: str) -> None:
    first, second = (rank["unchecked"][case] for rank in found())
    assert isinstance(first, list), first
    assert first != second
    for rank in found():
        assert "have gradients that are not averaged" in rank[case]


@pytest.mark.parametrize("how", TOO_LATE)
def test_an_optimizer_whose_parameters_sharding_would_replace_is_refused(how: str) -> None:
    for rank in found():
        assert "must be passed together to `Accelerator.prepare()`" in rank["too late"][how]


@pytest.mark.parametrize("shared", [False, True], ids=["two models", "halves of one model"])
def test_two_optimizers_train_a_sharded_model_as_they_train_a_whole_one(shared: bool) -> None:
    """Accumulated, with schedulers, and from a checkpoint on."""
    for rank in found():
        whole, sharded = rank[f"whole, {shared}"], rank[f"sharded, {shared}"]
        assert sharded["rates"] == whole["rates"]
        for part in ("first", "second", "again"):
            assert flat(sharded[part]) == pytest.approx(flat(whole[part]), rel=1e-5, abs=1e-6)
        assert sharded["again"] == sharded["second"] != sharded["first"]
        assert whole["again"] == whole["second"]


def flat(nested: Any) -> list[float]:
    return [x for one in nested for x in flat(one)] if isinstance(nested, list) else [nested]
