"""Properties of distributed training, over real worlds, and the same as Accelerate's."""

from collections import Counter
from itertools import chain
from typing import Any

import pytest

from tests.distributed.programs import CASES, HANGS, OURS, SUMS, read
from tests.distributed.world import results

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.timeout(900),  # the first test of a world runs all cases, at worst several times
    pytest.mark.xdist_group("gloo"),
]

RIGHT_WHERE_ACCELERATE_IS_NOT = {  # case -> what accelerate 1.15 does
    "split, uneven": "its len() counts a batch that a rank does not have",
    "seedable, ranks seeded differently": "its ranks read overlapping samples, and miss others",
    "train, accumulate 4 of 6": "the last two batches count half",
    "subset of 30": "its metrics count 20 of 30",
    "left early": "its outer loader never ends",
    "stream dispatched, two workers": "each sample is read twice",
    "stream read by all": "its metrics count padding",
    "stream read by all, split": "its metrics count padding",
    "stream read by all, two workers": "each sample is read twice",
    "stream read by all, skipped": "its metrics count padding",
    "numbers, skipped": "its metrics count padding",
    "operations: pad what is true or false": "it becomes int64 on the ranks that are padded",
    "windows: cut short": "the last batches count half",
    "windows: cut short, of a stream": "the last batches count half",
    "windows: cut short, reduced each batch": "the last batches count half",
    "windows: cut short, clipped": "the last batches count half",
    "windows: two backwards and steps, cut short": "the last batches count half",
    "windows: two backwards and steps, cut short and clipped": "the last batches count half",
    "windows: ranks with other numbers of batches": "the last batches count half",
    "structures": "a dict with a list in it becomes a list of keys",
}
WORLDS = (1, 2, 3, 4)


def found(case: str, world: int, library: str = "runtime") -> list[Any]:
    return [rank[case] for rank in results(library, world)]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize(
    "case", sorted(CASES.keys() - RIGHT_WHERE_ACCELERATE_IS_NOT - HANGS - OURS - SUMS)
)
def test_every_rank_finds_what_it_finds_under_accelerate(case: str, world: int) -> None:
    """Batches, weights, losses, learning rates, collectives: equal bit by bit."""
    assert found(case, world) == found(case, world, "accelerate")


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", SUMS)
def test_sums_are_those_of_accelerate_in_another_order(case: str, world: int) -> None:
    theirs = found(case, world, "accelerate")
    assert flat(found(case, world)) == pytest.approx(flat(theirs), rel=1e-6)


@pytest.mark.parametrize("case", RIGHT_WHERE_ACCELERATE_IS_NOT)
def test_where_accelerate_is_wrong_it_still_is(case: str) -> None:
    """Else there is nothing to be better at, and the case belongs to the others."""
    assert found(case, 2) != found(case, 2, "accelerate")


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


def steps(case: str, world: int) -> list[list[int]]:
    """What all ranks together read in each whole step."""
    return [
        [*chain(*parts)]
        for epoch in zip(*found(case, world), strict=True)
        for parts in list(zip(*(rank["own"] for rank in epoch), strict=True))[:-1]
    ]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_a_seedable_order_is_the_same_for_any_number_of_processes(world: int) -> None:
    assert steps("split, seedable", world) == steps("split, seedable", 1) != []


@pytest.mark.parametrize("world", [3, 4])
def test_torchs_order_is_the_same_for_any_number_of_processes_but_one(world: int) -> None:
    """One process draws a seed for each pass, as torch does; several share one generator."""
    assert steps("split", world) == steps("split", 2) != steps("split", 1)


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


READ = [case for case, (program, _) in CASES.items() if program is read]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", READ)
def test_whoever_reads_each_sample_is_counted_once_and_in_order(case: str, world: int) -> None:
    options = CASES[case][1]
    n, batch = options.get("n", 37), options.get("batch", 4)
    step = batch if options.get("split_batches") else batch * world
    last = n // step * step if options.get("drop_last") else n
    for rank in found(case, world):
        for epoch in rank:
            assert epoch["counted"] == list(range(options.get("skip", 0) * step, last))
            assert epoch["ends"] == [False] * (len(epoch["own"]) - 1) + [True]


@pytest.mark.parametrize("world", WORLDS)
def test_structures_keep_their_form_in_metrics(world: int) -> None:
    for rank in found("structures", world):
        names = [f"s{i}" for i in range(10)]
        assert rank["objects"] == names
        assert [name for one in rank["mixed"] for name in one["names"]] == names
        assert [x for one in rank["dict"] for x in one["x"]] == list(range(10))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", sorted(HANGS))
def test_ranks_with_fewer_batches_are_joined(case: str, world: int) -> None:
    ranks = found(case, world)
    assert sum(rank["steps"] for rank in ranks) == 5
    assert len({rank["steps"] for rank in ranks}) == 2
    assert all(rank["weights"] == ranks[0]["weights"] for rank in ranks)


@pytest.mark.parametrize("world", WORLDS)
def test_an_accumulation_that_is_cut_short_has_its_own_mean(world: int) -> None:
    """4 of 6 batches, then 2: the same steps as batches four and two times as large, split."""
    (alone,) = found("train, accumulate 4 of 6", 1)
    plain = found("train, 4 and 2 batches at once", world)
    for rank in [*found("train, accumulate 4 of 6", world), *plain]:
        assert flat(rank["weights"]) == pytest.approx(flat(alone["weights"]), abs=1e-5)


TWO = "windows: two backwards and steps, cut short"


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", [TWO, f"{TWO} and clipped"])
def test_two_optimizers_that_are_cut_short_each_have_their_own_mean(case: str, world: int) -> None:
    """tests/runtime/test_accumulation.py compares the steps of one process."""
    (alone,) = found(case, 1)
    for rank in found(case, world):
        assert flat(rank["weights"]) == pytest.approx(flat(alone["weights"]), abs=1e-5)


OLD_RULE = {
    "train, accumulate 4 of 6": "train, accumulate 4 of 6, old rule",
    TWO: "windows: two backwards and steps, old rule",
}


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", OLD_RULE)
def test_an_accumulation_that_is_cut_short_is_as_accelerates_if_asked(
    case: str, world: int
) -> None:
    assert found(OLD_RULE[case], world) == found(case, world, "accelerate")


@pytest.mark.parametrize("world", [1, 2])
def test_an_inner_loop_left_early_hides_no_end(world: int) -> None:
    assert [rank[-1] for rank in found("left early", world)] == [True] * world
    assert not any(rank[-1] for rank in found("left early", 2, "accelerate"))


def test_the_length_is_right_where_accelerates_is_not() -> None:
    ranks = found("split, uneven", 2)
    assert all(epoch["length"] == len(epoch["own"]) for rank in ranks for epoch in rank)


@pytest.mark.parametrize("world", WORLDS)
def test_what_is_printed_is_printed_once_on_each_machine(world: int) -> None:
    """As by Accelerate, to which `printed` is compared above; machines here have two processes."""
    assert found("printed", world) == ["once-1;" * 3, "", "once-1;" * 3, ""][:world]


def test_generators_are_in_step_and_only_those_asked_for() -> None:
    ranks = found("generator in step", 2)
    assert ranks[0]["torch"] != ranks[1]["torch"]
    ranks = found("torch in step", 2)
    assert ranks[0]["torch"] == ranks[1]["torch"]
