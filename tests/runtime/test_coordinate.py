"""Which processes train on the same batches."""

from collections import Counter

import pytest

from runtime.world.coordinate import DataCoordinate

GRID = [(size, span) for size in range(1, 7) for span in range(1, 5)]


@pytest.mark.parametrize(("size", "span"), GRID)
def test_each_batch_has_as_many_processes_whose_ranks_are_consecutive(size: int, span: int) -> None:
    world = [DataCoordinate(index, size * span, span) for index in range(size * span)]
    ranks = [one.rank for one in world]
    assert ranks == sorted(ranks)
    assert Counter(ranks) == dict.fromkeys(range(size), span)
    for one in world:
        assert one.size == size
        assert [one.rank_of(other) for other in range(size * span)] == ranks
        assert one.one_of_each(ranks) == list(range(size))


@pytest.mark.parametrize("span", [0, 3])
def test_processes_that_share_a_batch_divide_the_world(span: int) -> None:
    with pytest.raises(ValueError, match="must divide 4, the world size, got"):
        DataCoordinate(0, 4, span)
