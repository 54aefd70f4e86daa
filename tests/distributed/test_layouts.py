"""A resumed training has the bits of the undisturbed one, in worlds of three and four processes.

There the sum of gradients depends on how DistributedDataParallel lays out its buckets. `whole` is
the undisturbed training; each row has the bits of weights and gradients after each step.
"""

import functools
from typing import Any

import pytest

from tests.distributed.layouts import CASES, RESIZES, SIZES
from tests.distributed.world import told_by

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # as in test_training
    pytest.mark.xdist_group("gloo"),
]
ROWS = [(size, name) for size, names in SIZES.items() for name in names]
RESUMED = [(size, name, step) for size, name in ROWS for step in CASES[name].resumed]


@functools.cache
def found() -> dict[str, Any]:
    """One run for all tests."""
    read: dict[str, Any] = told_by("layouts.py")
    return read


def of(size: int, name: str) -> list[dict[str, Any]]:
    """What each rank found."""
    return [rank[name] for rank in found()[str(size)]]


@pytest.mark.parametrize(("size", "name"), ROWS)
class TestEachTraining:
    """The undisturbed training, and what depends on the case as a whole."""

    def test_has_the_bits_of_plain_torch(self, size: int, name: str) -> None:
        assert all(rank["whole"] == rank["plain"] for rank in of(size, name))

    def test_is_the_same_on_all_ranks(self, size: int, name: str) -> None:
        first, *others = of(size, name)
        assert all(rank == first for rank in others)

    def test_goes_on_in_the_same_life_with_the_same_bits(self, size: int, name: str) -> None:
        for rank in of(size, name):
            assert rank["same life"] == rank["whole"][CASES[name].resumed[-1] :]

    def test_differs_if_a_checkpoint_has_no_order(self, size: int, name: str) -> None:
        """The cases are sensitive; and checkpoints of earlier versions are loaded."""
        for rank in of(size, name):
            end = 2 + len(rank["without order"])
            assert (rank["without order"] != rank["whole"][2:end]) == CASES[name].depends


@pytest.mark.parametrize(("size", "name", "step"), RESUMED)
def test_a_resumed_training_has_the_bits_of_the_undisturbed_one(
    size: int, name: str, step: int
) -> None:
    for rank in of(size, name):
        rest = rank["resumed"][str(step)]
        assert len(rest) >= 2
        assert rest == rank["whole"][step : step + len(rest)]


def test_local_sgd_keeps_no_order() -> None:
    assert found()["apart"] == [[False]] * 3


def test_a_world_of_another_size_goes_on_with_the_same_weights_on_all_ranks() -> None:
    for size, life in zip(RESIZES, found()["resized"], strict=True):
        assert len(life) == size
        assert all(rank == life[0] for rank in life)
