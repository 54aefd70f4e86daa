"""Batch samplers whose batches are not as long as their `batch_size`: the real length counts."""

from itertools import chain, product
from typing import Any

import pytest
from torch.utils.data import DataLoader

from runtime.data_loader import prepare_data_loader, skip_first_batches
from tests.samplers import Lengths

NAMED = 12  # a multiple of each world's size, as split_batches wants it
LENGTHS = {
    "pairs, twice as many as named": [24] * 5,
    "larger, the last one cut short": [15, 15, 15, 4],
    "a single one, larger": [30],
    "a single one, cut short": [5],
    "smaller": [4] * 7,
    "smaller, the last one cut short": [5, 5, 5, 2],
    "token budgets": [14, 3, 12, 9, 30, 1, 7],
    "token budgets, the last one the largest": [3, 7, 40],
    "as named": [12, 12, 12, 12, 7],
    "as named, one cut short in the middle": [12, 5, 12, 12],
}
HAS_A_SIZE = [name for name in LENGTHS if not name.startswith("token") and "middle" not in name]
WORLDS = (1, 2, 3, 4)


def ranks(name: str, world: int, **options: Any) -> list[Any]:
    return [
        prepare_data_loader(
            DataLoader(range(1000), batch_sampler=Lengths(LENGTHS[name], NAMED)),  # type: ignore[arg-type]  # as torch takes them
            None,
            world,
            rank,
            **options,
        )
        for rank in range(world)
    ]


def given(loader: Any) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize("split", [False, True], ids=["dealt", "split"])
@pytest.mark.parametrize("even", [False, True], ids=["uneven", "even"])
@pytest.mark.parametrize("name", LENGTHS)
def test_no_sample_is_lost(name: str, even: bool, split: bool) -> None:
    """Uneven ranks have each once; even ones have as many batches as each other."""
    samples = list(range(sum(LENGTHS[name])))
    for world in WORLDS:
        readers = ranks(name, world, even_batches=even, split_batches=split)
        batches = [given(reader) for reader in readers]
        found = sorted(chain(*chain(*batches)))
        assert sorted(set(found)) == samples
        if even:
            assert len({len(own) for own in batches}) == 1
        elif not split or min(LENGTHS[name]) >= world:
            assert found == samples


@pytest.mark.parametrize("split", [False, True], ids=["dealt", "split"])
@pytest.mark.parametrize("name", HAS_A_SIZE)
def test_what_fills_the_last_step_is_not_counted(name: str, split: bool) -> None:
    """Batches that have one size: all ranks together, less what the remainder leaves out."""
    for world in (2, 3, 4):
        readers = ranks(name, world, split_batches=split)
        steps = [list(chain(*step)) for step in zip(*map(given, readers), strict=True)]
        last = readers[0]
        kept = len(steps[-1]) * (world - last.padding_ranks) // world
        steps[-1] = steps[-1][: last.remainder if last.remainder > 0 else kept]
        assert sorted(chain(*steps)) == list(range(sum(LENGTHS[name])))


@pytest.mark.parametrize("split", [False, True], ids=["dealt", "split"])
@pytest.mark.parametrize("name", LENGTHS)
def test_the_rest_comes_after_a_resume_and_behind_skipped_batches(name: str, split: bool) -> None:
    for world, even in product(WORLDS, (False, True)):
        if split and not even and min(LENGTHS[name]) < world:
            continue  # a rank has no part of some step, and does not count it
        options = {"even_batches": even, "split_batches": split}
        for rank, reader in enumerate(ranks(name, world, **options)):
            passed = [(batch.tolist(), reader.state_dict()) for batch in reader]
            for at in range(len(passed) - 1):
                rest = [batch for batch, _ in passed[at + 1 :]]
                again = ranks(name, world, **options)[rank]
                assert given(skip_first_batches(again, at + 1)) == rest
                again = ranks(name, world, **options)[rank]
                again.load_state_dict(passed[at][1])
                assert given(again) == rest
