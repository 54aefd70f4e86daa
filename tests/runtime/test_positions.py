"""What holds for every order, world and place: each sample once, and the rest after a resume."""

from collections.abc import Callable, Iterator
from itertools import chain, product
from typing import Any

import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from runtime.data_loader import prepare_data_loader, skip_first_batches
from tests.samplers import OwnKind


class Numbers(Dataset[int]):
    """0 to n-1; keeps what it was asked for."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        self.asked.append(index)
        return index


class Backwards(Sampler[int]):
    """A sampler that nobody knows."""

    def __init__(self, data: Numbers) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data))[::-1])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(9)


ORDERS: dict[str, tuple[Callable[[Numbers], Any], dict[str, Any]]] = {
    "in order": (SequentialSampler, {}),
    "shuffled": (lambda data: RandomSampler(data, generator=seeded()), {}),
    "seedable": (RandomSampler, {"use_seedable_sampler": True, "data_seed": 4}),
    "keyed": (RandomSampler, {"shuffle": "keyed", "data_seed": 4}),
    "subset": (lambda data: SubsetRandomSampler(range(data.n), generator=seeded()), {}),
    "replaced": (lambda data: RandomSampler(data, replacement=True, generator=seeded()), {}),
    "unknown": (Backwards, {}),
}
KNOWN = ("in order", "shuffled", "seedable", "keyed")


def reader(
    order: str, n: int, batch: int, *, world: int = 1, rank: int = 0, kind: Any = None, **more: Any
) -> Any:
    data = Numbers(n)
    sampler, options = ORDERS[order]
    if kind is None:
        plain: DataLoader[int] = DataLoader(data, batch, sampler=sampler(data))
    else:
        plain = DataLoader(data, batch_sampler=kind(sampler(data), batch, False))
    return prepare_data_loader(plain, None, world, rank, **options, **more)


def steps(readers: list[Any]) -> list[list[int]]:
    """What all ranks together are given in each step of an epoch."""
    ranks = [[batch.tolist() for batch in one] for one in readers]
    return [list(chain(*step)) for step in zip(*ranks, strict=True)]


GRID = list(product((1, 5, 12, 13, 24, 31), (1, 2, 3), (1, 2, 3, 4)))


@pytest.mark.parametrize("kind", [None, OwnKind])
@pytest.mark.parametrize("order", ORDERS)
def test_all_ranks_together_give_the_samplers_output_once(order: str, kind: Any) -> None:
    """In its order; then comes padding, which the remainder leaves out."""
    for n, batch, world in GRID:
        readers = [reader(order, n, batch, world=world, rank=r, kind=kind) for r in range(world)]
        alone = reader(order, n, batch, kind=kind)
        for _ in range(2):
            given = steps(readers)
            real = readers[0].remainder or batch * world
            if world > 1:
                given[-1] = given[-1][:real]
            assert list(chain(*given)) == list(chain(*steps([alone]))), (n, batch, world)


@pytest.mark.parametrize("order", ["in order", "seedable", "keyed"])
def test_a_global_batch_is_the_same_for_every_world_that_divides_it(order: str) -> None:
    """It is a function of the seed, the epoch, the samples and its size, also if it is split."""
    for n, size, world, split in product((24, 31, 100), (12, 24), (2, 3, 4, 6), (False, True)):
        alone = reader(order, n, size)
        batch = size if split else size // world
        readers = [
            reader(order, n, batch, world=world, rank=rank, split_batches=split)
            for rank in range(world)
        ]
        for _ in range(2):
            whole = slice(n // size)
            assert steps(readers)[whole] == steps([alone])[whole], (n, size, world)


@pytest.mark.parametrize("kind", [None, OwnKind])
@pytest.mark.parametrize("order", ORDERS)
def test_from_any_position_comes_the_rest_of_the_stream(order: str, kind: Any) -> None:
    """Bit by bit, epochs after it included; where the order is known nothing else is read."""
    for world, rank in ((1, 0), (2, 1), (3, 0)):
        one = reader(order, 31, 3, world=world, rank=rank, kind=kind)
        epochs = [[(b.tolist(), one.state_dict()) for b in one] for _ in range(2)]
        batches = [[batch for batch, _ in epoch] for epoch in epochs]
        for epoch, at in product(range(2), range(len(batches[0]) - 1)):
            again = reader(order, 31, 3, world=world, rank=rank, kind=kind)
            again.load_state_dict(epochs[epoch][at][1])
            rest = [batch.tolist() for batch in again]
            assert rest == batches[epoch][at + 1 :], (world, epoch, at)
            assert again.dataset.asked == list(chain(*rest))
            if not epoch:
                assert [batch.tolist() for batch in again] == batches[1]


@pytest.mark.parametrize("order", KNOWN)
def test_a_position_holds_for_another_world(order: str) -> None:
    """What one rank has saved; the samples of a step stay as many."""
    one = [reader(order, 48, 12)]
    states, given = [], []
    for batch in one[0]:
        given.append(batch.tolist())
        states.append(one[0].state_dict())
    for world, at in product((2, 3, 4), (0, 2)):
        others = [reader(order, 48, 12 // world, world=world, rank=r) for r in range(world)]
        for other in others:
            other.load_state_dict(states[at])
        assert steps(others) == given[at + 1 :]


@pytest.mark.parametrize("order", ORDERS)
def test_skipped_batches_are_not_read(order: str) -> None:
    for world, skipped in product((1, 2), (0, 1, 4)):
        whole = [batch.tolist() for batch in reader(order, 31, 3, world=world)]
        one: Any = skip_first_batches(reader(order, 31, 3, world=world), skipped)
        assert [batch.tolist() for batch in one] == whole[skipped:]
        assert one.dataset.asked == list(chain(*whole[skipped:]))
        assert len(one) == len(whole) - skipped
