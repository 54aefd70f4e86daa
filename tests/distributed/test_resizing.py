"""Checkpoints of one world in another: real processes over gloo."""

import functools
import tempfile
from collections import Counter
from typing import Any

import pytest

from tests.distributed.resizing import SIZES, N
from tests.distributed.world import told_by

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]
KINDS = ["map", "stream"]
Ranks = list[dict[str, Any]]


@functools.cache
def found() -> dict[str, Any]:
    """One run for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        read: dict[str, Any] = told_by("resizing.py", folder)
    return read


def pair(kind: str, saved: int, loaded: int) -> tuple[Ranks, Ranks]:
    """What each rank said when it saved, and what each said that loaded this."""
    loads = found()[f"loaded {kind}"][loaded - 1]
    return found()[f"saved {kind}"][saved - 1], [rank[str(saved)] for rank in loads]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loaded", SIZES)
@pytest.mark.parametrize("saved", SIZES)
class TestAnyWorldLoadsWhatAnyHasSaved:
    """From 1 to 4 processes, into 1 to 4; worlds of 3 and 4 have written behind."""

    def test_weights_optimizer_scheduler_and_accumulation(
        self, kind: str, saved: int, loaded: int
    ) -> None:
        before, after = pair(kind, saved, loaded)
        for name in ("tensors", "scheduler", "step"):
            assert [rank[name] for rank in after] == [before[0][name]] * loaded
        assert before[0]["step"] % 2 == 1  # in the middle of an accumulation of two

    def test_the_epoch_goes_on_with_each_sample_once(
        self, kind: str, saved: int, loaded: int
    ) -> None:
        """Also where the position is no whole number of global batches; then a whole epoch."""
        before, after = pair(kind, saved, loaded)
        for rank in after:
            assert Counter(before[0]["consumed"] + rank["rest"]) == Counter(range(N))
            assert sorted(rank["next"]) == list(range(N))

    def test_random_numbers(self, kind: str, saved: int, loaded: int) -> None:
        """A rank that was there goes on; one that was not draws what no other does."""
        before, after = pair(kind, saved, loaded)
        drawn = [rank["drawn"] for rank in after]
        both = min(saved, loaded)
        assert drawn[:both] == [rank["drawn"] for rank in before[:both]]
        assert len(set(drawn)) == loaded


def test_the_generators_of_new_ranks_are_a_function_of_the_checkpoint() -> None:
    """Rank r of a larger world draws the same whatever that world's size."""
    drawn = {
        (loaded, rank): said["drawn"]
        for loaded in SIZES
        for rank, said in enumerate(pair("map", 1, loaded)[1])
    }
    assert all(drawn[2 + rank, rank] == drawn[4, rank] for rank in (1, 2))


def test_what_one_rank_cannot_write_is_an_error_of_all() -> None:
    """Whether they wait for it or not; and the next save is not in its way."""
    for ranks in found()["failed"]:
        for rank in ranks:
            assert "full could not be written" in rank["error"]
            assert "No space left" in rank["error"]


def test_machines_that_share_no_files_load_the_newest_that_is_whole_on_all() -> None:
    for rank in found()["nodes"]:
        assert rank["is_first"]
        assert rank["is_second"] is False
        assert {"manifest.json", "random_states_0.pkl", "random_states_1.pkl"} <= set(rank["files"])
