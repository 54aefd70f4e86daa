"""Properties of distributed training, over real worlds, and the same as Accelerate's."""

from collections import Counter
from typing import Any

import pytest

from tests.distributed.programs import CASES
from tests.distributed.world import results

pytestmark = [pytest.mark.distributed, pytest.mark.xdist_group("gloo")]

RIGHT_WHERE_ACCELERATE_IS_NOT = {
    "split, uneven",  # its len() counts a batch that a rank does not have
    "seedable, ranks seeded differently",  # its ranks read overlapping samples, and miss others
    "subset of 30",  # its metrics count 20 of 30
    "left early",  # its outer loader never ends
    "stream of 37",  # it dispatches from rank 0
}
WORLDS = (1, 2, 3, 4)


def found(case: str, world: int, library: str = "runtime") -> list[Any]:
    return [rank[case] for rank in results(library, world)]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", sorted(CASES.keys() - RIGHT_WHERE_ACCELERATE_IS_NOT))
def test_every_rank_finds_what_it_finds_under_accelerate(case: str, world: int) -> None:
    """Batches, weights, losses, learning rates, collectives: equal bit by bit."""
    assert found(case, world) == found(case, world, "accelerate")


EVENED = ["shuffled", "in order", "divides", "seedable", "split", "ranks seeded differently"]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", [*EVENED, "seedable, ranks seeded differently", "uneven"])
def test_each_sample_is_used_once_an_epoch(case: str, world: int) -> None:
    """Padding comes after: it repeats samples, and is no more than a global batch."""
    n = CASES[case][1]["n"]
    for epoch in zip(*found(case, world), strict=True):
        seen = Counter(index for rank in epoch for batch in rank["own"] for index in batch)
        assert set(seen) == set(range(n))
        if case == "uneven":
            assert set(seen.values()) == {1}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", [*EVENED, "fewer than a global batch"])
def test_metrics_count_each_sample_exactly_once(case: str, world: int) -> None:
    n = CASES[case][1]["n"]
    for rank in found(case, world):
        for epoch in rank:
            assert sorted(epoch["counted"]) == list(range(n))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", ["shuffled", "seedable", "ranks seeded differently"])
def test_the_order_differs_between_epochs(case: str, world: int) -> None:
    first, second = found(case, world)[0]
    assert first["own"] != second["own"]


@pytest.mark.parametrize("world", WORLDS)
def test_only_the_last_batch_is_the_end(world: int) -> None:
    for rank in found("shuffled", world):
        for epoch in rank:
            assert epoch["ends"] == [False] * (len(epoch["own"]) - 1) + [True]
            assert epoch["length"] == len(epoch["own"])


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("case", ["train", "train, accumulate 2", "train, clipped"])
def test_weights_equal_those_of_one_process_on_the_same_global_batches(
    case: str, world: int
) -> None:
    """Up to the order of float32 sums: 12 steps stay within 1e-5 of values around 1."""
    (alone,) = found(case, 1)
    for rank in found(case, world):
        assert flat(rank["weights"]) == pytest.approx(flat(alone["weights"]), abs=1e-5)
        assert rank["losses"] == pytest.approx(alone["losses"], abs=1e-5)
        assert rank["rates"] == alone["rates"]


def flat(nested: Any) -> list[float]:
    return [x for item in nested for x in flat(item)] if isinstance(nested, list) else [nested]


@pytest.mark.parametrize("world", [2, 3])
def test_a_sampler_smaller_than_its_dataset_is_counted_in_full(world: int) -> None:
    for counted in found("subset of 30", world):
        assert sorted(counted) == list(range(30))
    assert len(found("subset of 30", 2, "accelerate")[0]) == 20


@pytest.mark.parametrize("world", WORLDS)
def test_an_iterable_dataset_is_counted_in_full(world: int) -> None:
    for counted in found("stream of 37", world):
        assert sorted(counted) == list(range(37))


@pytest.mark.parametrize("world", [1, 2])
def test_an_inner_loop_left_early_hides_no_end(world: int) -> None:
    assert [rank[-1] for rank in found("left early", world)] == [True] * world
    assert not any(rank[-1] for rank in found("left early", 2, "accelerate"))


def test_the_length_is_right_where_accelerates_is_not() -> None:
    ranks = found("split, uneven", 2)
    assert all(epoch["length"] == len(epoch["own"]) for rank in ranks for epoch in rank)


def test_generators_are_in_step_and_only_those_asked_for() -> None:
    ranks = found("generator in step", 2)
    assert ranks[0]["torch"] != ranks[1]["torch"]
    ranks = found("torch in step", 2)
    assert ranks[0]["torch"] == ranks[1]["torch"]
