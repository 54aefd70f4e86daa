"""Loops that are killed and go on, in worlds of real processes over gloo."""

import functools
from collections import Counter
from typing import Any

import pytest

from tests.distributed.loops import NAMES, RESIZES
from tests.distributed.world import told_by

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.timeout(900),  # as in test_training
    pytest.mark.xdist_group("gloo"),
]
STRIDE = {"uneven inputs": 3}  # steps between two notes; others: 1
LOSES = {"local SGD": 4, "uneven inputs": 4}  # steps that a kill may cost; others: 2


@functools.cache
def found() -> dict[str, Any]:
    """One run for all tests."""
    read: dict[str, Any] = told_by("loops.py")
    return read


def steps(notes: list[Any]) -> list[int]:
    return [one[1] for one in notes if one[0] == "step"]


@pytest.mark.parametrize("name", NAMES)
def test_each_rank_goes_on_with_the_bits_of_an_undisturbed_training(name: str) -> None:
    for rank, whole in enumerate(found()[name]["whole"]):
        last = 0
        for life in found()[name]["lives"]:
            notes = life[rank]
            first = next((i for i, one in enumerate(notes) if one[0] == "step"), len(notes) - 1)
            begin = whole.index(notes[first])
            assert notes[first:] == whole[begin : begin + len(notes) - first]
            begun = steps(notes) or [last + 1]
            assert last - LOSES.get(name, 2) < begun[0] <= last + STRIDE.get(name, 1)
            last = max(last, begun[-1])
        assert found()[name]["lives"][-1][rank][-1] == whole[-1]


@pytest.mark.parametrize(("before", "after"), RESIZES)
def test_a_world_of_another_size_reads_each_sample_once_an_epoch(before: int, after: int) -> None:
    one, two = found()["resized"][RESIZES.index((before, after))]
    begun = steps(two)[0]
    read: dict[int, Counter[int]] = {}
    for note in [*(note for note in one if note[1] < begun), *two]:
        if note[0] == "step":
            read.setdefault(note[2], Counter()).update(note[3])
    assert begun == steps(one)[-1]
    assert set(read) == {0, 1, 2}
    assert all(samples == Counter(range(60)) for samples in read.values())
