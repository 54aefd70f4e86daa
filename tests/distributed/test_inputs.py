"""What scripts hand over in unusual forms, in two real processes."""

import functools
from typing import Any

import pytest

from tests.distributed.inputs import LENGTHS, LOADERS
from tests.distributed.world import told_by

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]


@functools.cache
def found() -> list[dict[str, Any]]:
    """One run for all tests: what each rank has found."""
    read: list[dict[str, Any]] = told_by("inputs.py")
    return read


@pytest.mark.parametrize("case", LOADERS)
def test_metrics_count_each_sample_once_whatever_size_the_sampler_names(case: str) -> None:
    """Of a whole epoch, and of the rest of one behind its first step."""
    name, options = LOADERS[case]
    samples = list(range(sum(LENGTHS[name])))
    width = 1 if options.get("split_batches") else 2
    passed = sum(LENGTHS[name][:width])
    for rank in found():
        assert rank[case] == [samples, samples[passed:]]


def test_a_dispatcher_that_splits_divides_names_as_it_divides_tensors() -> None:
    """In a defaultdict, which stays one."""
    assert [rank["names"] for rank in found()] == [
        [["defaultdict", ["a", "b"], [0, 1]]],
        [["defaultdict", ["c", "a"], [2, 0]]],
    ]


def test_arrays_are_filled_up_by_their_last_number() -> None:
    assert [rank["numpy"] for rank in found()] == [[0, 1, 2], [3, 4, 4]]
