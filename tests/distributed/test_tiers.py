"""Automatic checkpoints of two ranks in an object store and in memory; see `tiers.py`."""

import functools
from typing import Any

import pytest

from tests.distributed.tiers import SHAPES
from tests.distributed.world import told_by

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("gloo"),
]


@functools.cache
def found() -> dict[str, Any]:
    """One run for all tests."""
    read: dict[str, Any] = told_by("tiers.py")
    return read


CASES = [f"{where}, {shape}" for where in ("object store", "memory") for shape in SHAPES]


@pytest.mark.parametrize("name", [*CASES, "memory, lost"])
def test_each_rank_goes_on_with_the_bits_of_an_undisturbed_training(name: str) -> None:
    for rank, whole in enumerate(found()["whole"]):
        for life in found()[name]:
            notes = life[rank]["notes"]
            first = next(i for i, one in enumerate(notes) if one[0] == "step")
            begin = whole["notes"].index(notes[first])
            assert notes[first:] == whole["notes"][begin : begin + len(notes) - first]
        assert found()[name][-1][rank]["notes"][-1] == whole["notes"][-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_only_rank_0_reads_the_object_store(shape: str) -> None:
    lives = found()[f"object store, {shape}"]
    assert all(life[0]["read"] > 0 and life[1]["read"] == 0 for life in lives[1:])


def test_a_sharded_model_needs_a_directory_that_all_machines_share() -> None:
    assert found()["sharded, one machine"][-1][0]["notes"][-1][0] == "weights"
    (life,) = found()["sharded, two machines"]
    for rank in life:
        assert "need a directory that all share, got s3://bucket/two/sharded" in rank["error"]


def test_a_sharded_model_of_two_machines_is_not_kept_in_memory() -> None:
    said = "".join(life[0]["said"] for life in found()["sharded in memory"])
    assert "no more checkpoints are kept in memory: a sharded model or a hook" in said
    assert "(memory)" not in said
