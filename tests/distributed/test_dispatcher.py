"""What rank 0 reads for all: every structure, size and end, also the unhappy ones."""

from typing import Any

import pytest

from tests.distributed.dispatching import BATCH, ENDS, RESUMED, RESUMED_IN, RESUMED_N
from tests.distributed.world import results

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.timeout(900),  # as in test_training
    pytest.mark.xdist_group("gloo"),
]

WORLDS = (2, 3, 4)
N = 22


def found(case: str, world: int) -> list[Any]:
    return [rank[f"dispatched: {case}"] for rank in results("runtime", world)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("case", ["nested", "split"])
def test_a_nested_batch_keeps_its_structure_and_is_counted_once(case: str, world: int) -> None:
    for rank in found(case, world):
        for epoch in rank:
            counted = epoch["counted"]
            assert [x for step in counted for x in step["x"]] == [[i, -i] for i in range(N)]
            assert [y for step in counted for y in step["y"][0]] == [*range(N)]
            assert [z for step in counted for z in step["y"][1][0]] == [2.0 * i for i in range(N)]
            assert all([x, -x] in step["x"] for step in epoch["own"] for x in step["y"][0])


@pytest.mark.parametrize("world", WORLDS)
def test_anything_is_dealt_batch_by_batch_and_counted_once(world: int) -> None:
    """Lists, strings and None, which cannot be divided: a short batch stays one."""
    for rank in found("named", world):
        for epoch in rank:
            names = [name for step in epoch["counted"] for name in step["name"]]
            assert names == [f"s{i}" for i in range(N)]
            for step in epoch["own"]:
                assert step["name"] == [f"s{i}" for i in step["x"]]
                assert step["none"] == [None] * len(step["x"])


@pytest.mark.parametrize("world", WORLDS)
def test_tensors_of_any_size_go_to_a_rank_each(world: int) -> None:
    """They do not go together; at the end a rank without one has one of the first step's."""
    ranks = found("any size", world)
    for epoch in range(2):
        own = [rank[epoch]["own"] for rank in ranks]
        given = [batch[0] for step in zip(*own, strict=True) for batch in step]
        assert [sample[0][0] for sample in given[:N]] == [*range(N)]
        assert all(len(sample) == 1 + sample[0][0] // BATCH for sample in given)
        assert len(given) == -(-N // world) * world


@pytest.mark.parametrize("world", WORLDS)
def test_elements_that_are_batches_are_divided_evenly(world: int) -> None:
    ranks = found("elements are batches", world)
    wanted = [i for i in range(N) for _ in range(1 + i % 3)]
    for epoch in range(2):
        steps = list(zip(*(rank[epoch]["own"] for rank in ranks), strict=True))
        assert [x for step in steps for part in step for x in part][: len(wanted)] == wanted
        sizes = [{len(part) for part in step} for step in steps]
        assert all(max(step) - min(step) <= 1 for step in sizes)
        assert len(sizes[-1]) == 1


@pytest.mark.parametrize("world", WORLDS)
def test_numbers_of_two_bytes_arrive_as_they_are(world: int) -> None:
    for rank in found("half", world):
        for epoch in rank:
            assert [x for step in epoch["counted"] for x in step] == [[i, 0.5] for i in range(N)]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("case", "counted"),
    [("split, drop_last", [[*range(12)]]), ("none", []), ("one", [[0]])],
)
def test_the_end_is_short_or_is_not(case: str, counted: list[Any], world: int) -> None:
    for rank in found(case, world):
        assert [epoch["counted"] for epoch in rank] == [counted] * 2
        assert all(len(epoch["own"]) == len(counted) for epoch in rank)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("case", "bad"), [("fails at once", 0), ("fails later", 19)])
def test_all_hear_that_rank_0_cannot_read_on_and_none_hangs(
    case: str, bad: int, world: int
) -> None:
    """Every whole step that was read before is given; then all go on."""
    ranks = found(case, world)
    given = bad // (world * BATCH)  # steps
    for rank, one in enumerate(ranks):
        assert one["together"] == [*range(world)]
        starts = [(step * world + rank) * BATCH for step in range(given)]
        assert one["batches"][:-1] == [[*range(start, start + BATCH)] for start in starts]
    assert ranks[0]["batches"][-1] == f"LookupError: element {bad} cannot be read"
    assert {one["batches"][-1] for one in ranks[1:]} == {
        "RuntimeError: rank 0 could not read its data loader: see the log of rank 0"
    }


@pytest.mark.parametrize("world", WORLDS)
def test_a_batch_is_divided_by_the_scripts_own_rule(world: int) -> None:
    """Which is told the rank and the world, and the slice that it would have been."""
    for rank, steps in enumerate(found("by own rule", world)):
        wanted = [[[*range(i, i + 12)][rank::world], 12 // world] for i in (0, 12)]
        assert steps == wanted


@pytest.mark.parametrize("world", WORLDS)
def test_a_loop_left_early_is_begun_again_and_one_saved_goes_on(world: int) -> None:
    for rank in found("left and resumed", world):
        assert rank["rest"][:-1] == rank["whole"][1:-1]
        assert len(rank["rest"]) == len(rank["whole"]) - 1


@pytest.mark.parametrize("world", RESUMED_IN)
@pytest.mark.parametrize("kind", RESUMED)
def test_from_any_position_comes_the_rest_of_what_was_read(kind: str, world: int) -> None:
    """On all ranks, the uneven last step and the epoch after it included; whatever the end is."""
    ranks = found(f"resumed, {kind}", world)
    for end, (split, drop_last) in enumerate(ENDS):
        steps = list(zip(*(rank[end]["epoch"] for rank in ranks), strict=True))
        assert {len({len(part) for part in step}) for step in steps} == {1}, end
        width = 1 if kind == "any batch sampler" else world  # it drops its own last batch only
        batch = 12 if split else BATCH * width
        given = [x for step in steps for part in step for x in part]
        assert len(set(given)) == (RESUMED_N // batch * batch if drop_last else RESUMED_N)
        assert len(given) > RESUMED_N or drop_last  # something is filled
        assert all(all(rank[end]["agree"]) for rank in ranks), (split, drop_last)
        assert ranks[0][end]["agree"] or (split or drop_last)


@pytest.mark.parametrize("world", WORLDS)
def test_what_fills_the_last_step_draws_no_random_numbers(world: int) -> None:
    """Rank 0 draws for what it reads to go on, the others for nothing."""
    assert found("drawn again", world) == [RESUMED_N - BATCH * world, *[0] * (world - 1)]
