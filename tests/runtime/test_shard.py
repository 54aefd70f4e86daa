from itertools import chain, product
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard as TheirShard
from accelerate.data_loader import IterableDatasetShard as TheirIterableShard
from torch.utils.data import BatchSampler, IterableDataset

from runtime.data.batch_samplers import BatchSamplerShard
from runtime.data.iterable import IterableDatasetShard
from runtime.data.shard import Layout, count, remainder, spans
from tests.samplers import Lengths, OwnKind

WORLDS = range(1, 5)
GRID = [
    (n, batch, world, split, even, drop)
    for n, batch, world, split, even, drop in product(
        range(26), range(1, 7), WORLDS, (False, True), (False, True), (False, True)
    )
    if not split or batch % world == 0
]


def layout(case: tuple[Any, ...], rank: int) -> Layout:
    _, batch, world, split, even, drop = case
    return Layout(
        batch_size=batch, world_size=world, rank=rank, split=split, even=even, drop_last=drop
    )


def test_every_rank_has_the_batches_that_accelerate_gives_it() -> None:
    for case in GRID:
        n, batch, world, split, even, drop = case
        for rank in range(world):
            sampler = BatchSampler(range(n), batch, drop)
            theirs = list(TheirShard(sampler, world, rank, split, even))
            assert [[p % n for p in span] for span in spans(n, layout(case, rank))] == theirs, case
            assert list(BatchSamplerShard(sampler, world, rank, split, even)) == theirs, case


def test_the_length_is_the_number_of_batches() -> None:
    """Also with split_batches and even_batches=False, where accelerate 1.15 counts too many."""
    for case in GRID:
        n, batch, world, split, even, drop = case
        for rank in range(world):
            own = layout(case, rank)
            assert count(n, own) == len(list(spans(n, own))), case
            shard = BatchSamplerShard(BatchSampler(range(n), batch, drop), world, rank, split, even)
            assert len(shard) == count(n, own), case
    over = TheirShard(BatchSampler(range(9), 4, False), 2, 1, True, False)  # theirs
    assert (len(over), len(list(over))) == (3, 2)


def test_all_ranks_together_have_every_sample_once_but_for_padding() -> None:
    for case in GRID:
        n, _, world, _, even, drop = case
        shards = [list(spans(n, layout(case, rank))) for rank in range(world)]
        positions = sorted(chain.from_iterable(chain.from_iterable(shards)))
        kept = len(positions) if drop else n
        assert positions[:kept] == list(range(kept)), case
        assert even or not positions[kept:], case
        last = remainder(n, layout(case, 0))
        assert drop or last == n % layout(case, 0).global_batch


def test_batch_samplers_of_other_kinds_are_dealt_alike() -> None:
    for case in GRID[::7]:
        n, batch, world, split, even, drop = case
        for rank in range(world):
            sampler = OwnKind(range(n), batch, drop)
            theirs = list(TheirShard(sampler, world, rank, split, even))
            assert list(BatchSamplerShard(sampler, world, rank, split, even)) == theirs, case


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("sizes", [(), (2,), (1, 3), (1, 2, 3), (4, 1, 1, 2, 3)])
def test_batches_of_any_size_are_dealt_whole(sizes: tuple[int, ...], even: bool) -> None:
    for world in WORLDS:
        for rank in range(world):
            theirs = list(TheirShard(Lengths(sizes), world, rank, False, even))  # theirs
            ours = BatchSamplerShard(Lengths(sizes), world, rank, even_batches=even)
            assert list(ours) == theirs
            assert len(ours) == len(theirs)


class Stream(IterableDataset[int]):
    """So many numbers."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Any:
        return iter(range(self.n))


def test_iterable_datasets_are_dealt_as_accelerate_does() -> None:
    for case in GRID:
        n, batch, world, split, even, drop = case
        if not even:
            continue
        for rank in range(world):
            theirs = list(TheirIterableShard(Stream(n), batch, drop, world, rank, split))
            ours = IterableDatasetShard(Stream(n), batch, drop, world, rank, split)
            assert list(ours) == theirs, case
            assert len(ours) == len(theirs), case


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(
        ValueError, match="must be a round multiple of the number of processes, got 5"
    ):
        Layout(batch_size=5, world_size=2, rank=0, split=True)
