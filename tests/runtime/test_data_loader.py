"""Prepared data loaders next to Accelerate's, in one process that plays each rank in turn."""

from collections.abc import Callable, Iterator
from itertools import product, starmap
from typing import Any, NamedTuple

import accelerate.data_loader as theirs
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import runtime.data_loader as ours
from tests.samplers import OwnKind

Loader = DataLoader[Any]


class Rows(Sampler[list[int]]):
    """Batches of one size, by a class that is no BatchSampler."""

    def __init__(self, n: int, batch_size: int, drop_last: bool) -> None:
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.rows = list(BatchSampler(range(n), batch_size, drop_last))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[*row] for row in self.rows])  # accelerate 1.15 changes what it is given


class Ragged(Rows):
    """Batches of several sizes, which it cannot tell."""

    def __init__(self, n: int, batch_size: int, drop_last: bool) -> None:
        super().__init__(n, batch_size, drop_last)
        del self.batch_size
        self.rows = [row[: 1 + i % batch_size] for i, row in enumerate(self.rows)]


def numbers(n: int) -> Any:
    """0 to n-1."""
    return range(n)


def by(sampler: Callable[[range, torch.Generator], Any]) -> Callable[[int, int, bool], Loader]:
    """Loaders over n numbers in the order of a sampler, which has a generator of its own."""

    def loader(n: int, batch: int, drop_last: bool) -> Loader:
        order = sampler(range(n), torch.Generator().manual_seed(3))
        return DataLoader(numbers(n), batch, drop_last=drop_last, sampler=order)

    return loader


def of(batches: Any) -> Callable[[int, int, bool], Loader]:
    """Loaders over n numbers in the batches of a batch sampler."""

    def loader(n: int, batch: int, drop_last: bool) -> Loader:
        return DataLoader(numbers(n), batch_sampler=batches(n, batch, drop_last))

    return loader


KINDS: dict[str, Callable[[int, int, bool], Loader]] = {
    "in order": lambda n, batch, drop: DataLoader(numbers(n), batch, drop_last=drop),
    "shuffled": lambda n, batch, drop: DataLoader(numbers(n), batch, shuffle=True, drop_last=drop),
    "random, generator": by(lambda data, g: RandomSampler(data, generator=g)),
    "random, replaced": by(lambda data, g: RandomSampler(data, replacement=True, generator=g)),
    "random, longer": by(
        lambda data, g: RandomSampler(data, num_samples=2 * len(data) + 1, generator=g)
    ),
    "random, shorter": by(
        lambda data, g: RandomSampler(data, num_samples=(len(data) + 1) // 2, generator=g)
    ),
    "subset": by(lambda data, g: SubsetRandomSampler(data[::2], generator=g)),
    "weighted": by(lambda data, g: WeightedRandomSampler([1.0] * len(data), 9, generator=g)),
    "own kind": of(lambda n, batch, drop: OwnKind(range(n), batch, drop)),
    "rows": of(Rows),
    "ragged": of(Ragged),
}
OF_ANOTHER_LENGTH = {"random, longer", "random, shorter", "subset", "weighted"}


class Case(NamedTuple):
    """An epoch and how it is dealt."""

    n: int
    batch: int
    world: int
    split: bool
    even: bool
    drop: bool


GRID = product((1, 2, 3, 5, 8, 12, 13), (1, 2, 3, 4), (1, 2, 3, 4), *[(False, True)] * 3)
CASES = [case for case in starmap(Case, GRID) if not case.split or case.batch % case.world == 0]


def under(loader: Any) -> Any:
    """The sampler below all wrappers."""
    batches = loader.batch_sampler
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    return getattr(batches, "sampler", None)


def prepared(library: Any, kind: str, case: Case, rank: int = 0, **options: Any) -> Any:
    n, batch, world, split, even, drop = case
    torch.manual_seed(5)
    return library.prepare_data_loader(
        KINDS[kind](n, batch, drop),
        num_processes=world,
        process_index=rank,
        split_batches=split,
        even_batches=even,
        **options,
    )


def attempt(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (AttributeError, TypeError) as error:  # where accelerate does not know it
        return repr(error)


def observed(loader: Any, epochs: int = 2) -> dict[str, Any]:
    """What a loader gives, epoch by epoch, and in which state it leaves all random generators."""
    batches = [
        [(batch.tolist(), loader.end_of_dataloader) for batch in loader] for _ in range(epochs)
    ]
    generator = getattr(under(loader), "generator", None)
    return {
        "type": type(loader).__name__,
        "chain": [type(one).__name__ for one in (loader.batch_sampler, under(loader))],
        "batch_size": (loader.batch_size, loader.drop_last),
        "dataset": loader.total_dataset_length,
        "batches": batches,
        "drawn": (torch.rand(1).item(), None if generator is None else generator.get_state().sum()),
        "last": [loader.remainder] * any(batches),
        "length": len(loader),
        "step": attempt(lambda: loader.total_batch_size),
    }


# What Accelerate 1.15 gets wrong, and the tests below hold: name -> where.
WRONG: dict[str, Callable[[str, Case], bool]] = {
    "length": lambda _, case: case.split and not case.even,
    "last": lambda kind, case: (
        kind in {*OF_ANOTHER_LENGTH, "ragged"}
        or (kind in {"own kind", "rows"} and (case.drop or case.world == 1))
    ),
    "step": lambda kind, _: kind == "ragged",
}


def is_right(name: str, kind: str, case: Case) -> bool:
    return name not in WRONG or not WRONG[name](kind, case)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prepared_loader_is_the_one_that_accelerate_prepares(kind: str) -> None:
    """Batches, their ends, lengths, attributes, and what is drawn from which generator."""
    for case in CASES[:: 5 if kind == "in order" else 13]:
        if kind == "ragged" and case.split:
            continue
        for rank in range(case.world):
            own = observed(prepared(ours, kind, case, rank))
            other = observed(prepared(theirs, kind, case, rank))
            for name, value in other.items():
                if is_right(name, kind, case):
                    assert own[name] == value, (name, case, rank)


@pytest.mark.parametrize("kind", ["shuffled", "random, generator", "random, replaced"])
def test_an_order_by_seed_is_the_one_that_accelerate_draws(kind: str) -> None:
    for case in CASES[::19]:
        for rank in range(case.world):
            options = {"use_seedable_sampler": True, "data_seed": 4}
            own = observed(prepared(ours, kind, case, rank, **options))
            other = observed(prepared(theirs, kind, case, rank, **options))
            if any(other["batches"]):
                assert own | {"length": 0} == other | {"length": 0}, (case, rank)


def length_of_order(kind: str, n: int) -> int:
    lengths = {"random, longer": 2 * n + 1, "random, shorter": (n + 1) // 2, "weighted": 9}
    return lengths.get(kind, len(range(n)[::2]) if kind == "subset" else n)


@pytest.mark.parametrize("kind", [*sorted(OF_ANOTHER_LENGTH), "own kind", "rows"])
def test_the_remainder_is_counted_in_the_sampler_rather_than_in_the_dataset(kind: str) -> None:
    wrong = 0
    for case in CASES[::11]:
        n, batch, world, split, even, drop = case
        remainder = 0 if drop else length_of_order(kind, n) % (batch * (1 if split else world))
        loader, other = (prepared(library, kind, case) for library in (ours, theirs))
        if even and list(loader) and list(other) and (world > 1 or kind in OF_ANOTHER_LENGTH):
            assert max(loader.remainder, 0) == remainder, case
            wrong += max(other.remainder, 0) != remainder
    assert wrong


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"ragged"}))
def test_the_length_is_the_number_of_batches_also_without_padding(kind: str) -> None:
    for case in CASES[::11]:
        for rank in range(case.world):
            loader = prepared(ours, kind, case, rank)
            if kind not in {"own kind", "rows"} or not case.split:
                assert len(list(loader)) == len(loader), case
    case = Case(9, 4, 2, split=True, even=False, drop=False)
    assert len(list(prepared(theirs, "in order", case, 1))) != len(
        prepared(theirs, "in order", case, 1)
    )


@pytest.mark.parametrize("world", [1, 2])
def test_batches_in_the_samplers_place_are_dealt(world: int) -> None:
    """A dataset that is asked for a batch at once; accelerate 1.15 cannot do it in one process."""
    data: Any = torch.arange(10)

    def loader() -> Loader:
        return DataLoader(data, None, sampler=BatchSampler(SequentialSampler(data), 3, False))

    shards = [
        ours.prepare_data_loader(loader(), num_processes=world, process_index=rank)
        for rank in range(world)
    ]
    found = [[batch.tolist() for batch in shard] for shard in shards]
    alone = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert found == ([alone] if world == 1 else [alone[::2], [[3, 4, 5], [9, 0, 1]]])
    if world == 1:
        with pytest.raises(TypeError, match="multiple values for keyword argument 'batch_size'"):
            theirs.prepare_data_loader(loader(), num_processes=1, process_index=0)


def test_the_sampler_of_a_shard_is_found() -> None:
    """Accelerate 1.15 finds none."""
    case = Case(8, 2, 2, split=False, even=True, drop=False)
    found, missed = (
        prepared(library, "shuffled", case).get_sampler() for library in (ours, theirs)
    )
    assert (type(found), missed) == (RandomSampler, None)


def test_a_batch_samplers_own_lists_are_left_alone() -> None:
    """Accelerate 1.15 fills the last one in place: it is another batch in the next epoch."""
    for library, after in ((ours, [[0, 1], [2]]), (theirs, [[0, 1], [2, 0]])):
        batches = Kept(3, 2, drop_last=False)
        shards = [library.BatchSamplerShard(batches, 2, rank) for rank in range(2)]
        assert [list(shard) for shard in shards] == [[[0, 1]], [[2, 0]]]
        assert batches.rows == after


class Kept(Rows):
    """Gives its own lists."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.rows)


@pytest.mark.parametrize("kind", ["in order", "shuffled", "rows"])
def test_a_dispatcher_in_a_world_of_one_gives_what_accelerates_does(kind: str) -> None:
    """Where there is anything: accelerate 1.15 raises an error where there is not."""
    for case in [case for case in CASES if case.world == 1][::5]:
        if case.n >= case.batch:
            options = {"put_on_device": True, "dispatch_batches": True}
            own = observed(prepared(ours, kind, case, **options))
            other = observed(prepared(theirs, kind, case, **options))
            for name in ("type", "chain", "batch_size", "dataset", "batches", "length"):
                assert own[name] == other[name], (name, case)


def test_what_is_skipped_is_what_accelerate_skips() -> None:
    """By a batch sampler, by a loader of its own, and before a prepared one."""
    for n, batch, drop, skipped in product((5, 12, 13), (1, 3), (False, True), (0, 1, 3)):
        batches = BatchSampler(range(n), batch, drop)
        own, other = (lib.SkipBatchSampler(batches, skipped) for lib in (ours, theirs))
        assert list(own) == list(iter(other))
        assert len(own) == len(list(own))  # accelerate 1.15 cannot tell when all are skipped
        for data in (numbers(n), Stream(n)):
            rows = []
            for library in (ours, theirs):
                loader = library.SkipDataLoader(
                    data, batch_size=batch, drop_last=drop, skip_batches=skipped
                )
                plain: Loader = DataLoader(data, batch, drop_last=drop)
                left = library.skip_first_batches(plain, skipped)
                rows.append([[row.tolist() for row in one] for one in (loader, left)])
                assert isinstance(loader, DataLoader)
            assert rows[0] == rows[1], (n, batch, drop, skipped)


class Stream(IterableDataset[int]):
    """0 to n-1, one after the other."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))
