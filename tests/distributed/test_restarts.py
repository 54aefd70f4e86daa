"""A restart changes neither the orders nor any random number, also in a world of another size."""

import functools
from typing import Any

import pytest

from tests.distributed.restarts import CASES, EPOCHS, KEPT, LIVES, SIZES, WINDOWS, N
from tests.distributed.world import told_by

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.timeout(900),  # as in test_training
    pytest.mark.xdist_group("gloo"),
]


@functools.cache
def found() -> dict[str, Any]:
    """One run for all tests."""
    read: dict[str, Any] = told_by("restarts.py")
    return read


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", SIZES)
class TestARestartAfterEachEpoch:
    """In each world, whoever reads: `whole` is the uninterrupted training, rank by rank."""

    def test_orders_and_random_numbers_are_those_of_the_uninterrupted_training(
        self, size: int, case: str
    ) -> None:
        whole, *lives = found()[str(size)]
        for rank in range(size):
            restarted = [life[rank][case][0] for life in lives]
            assert restarted == whole[rank][case]

    def test_each_epoch_has_an_order_of_its_own(self, size: int, case: str) -> None:
        whole, *_ = found()[str(size)]
        orders = []
        for epoch in range(EPOCHS):
            batches = [batch for rank in whole for batch, _ in rank[case][epoch][0]]
            orders.append([index for batch in batches for index in batch])
            assert sorted(orders[-1]) == list(range(N))
        forked = "stream, 2 workers"  # a worker draws from a copy that the next epoch's never see
        assert len({tuple(order) for order in orders}) == (1 if forked in case else EPOCHS)


class TestRestartsInWorldsOfOtherSizes:
    """Of 1, 2, 1 and 2 processes; accumulated, written behind, and with a limit of checkpoints.

    Each life loses the batch behind its last checkpoint.
    """

    @pytest.mark.parametrize("size", SIZES)
    def test_samples_weights_and_rates_are_those_of_the_uninterrupted_training(
        self, size: int
    ) -> None:
        whole = found()[f"whole {size}"][0]["windows"]
        lives = [window for life in found()["lives"] for window in life[0]["windows"]]
        assert len(lives) == len(whole) == WINDOWS
        for (samples, weights, rates), (own, own_weights, own_rates) in zip(
            lives, whole, strict=True
        ):
            assert sorted(samples) == sorted(own)
            assert rates == own_rates
            assert weights == pytest.approx(own_weights, rel=1e-5)

    def test_each_rank_has_the_same(self) -> None:
        for life in (*found()["lives"], found()["whole 2"]):
            assert all(rank["windows"] == life[0]["windows"] for rank in life)

    def test_the_newest_checkpoints_are_kept_and_whole(self) -> None:
        saved = 0
        for life, (_, windows) in zip(found()["lives"], LIVES, strict=True):
            saved += windows
            names = [f"checkpoint_{n}" for n in range(max(saved - KEPT, 0), saved)]
            assert life[0]["kept"] == [[name, None] for name in names]
