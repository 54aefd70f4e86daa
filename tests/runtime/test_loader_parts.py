"""Parts of prepared loaders stay the script's, and unusual samplers are read as by torch."""

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, default_collate

from runtime.data_loader import prepare_data_loader, skip_first_batches


class Stream(IterableDataset[int]):
    """0 to 6."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(7))


def init(_: int) -> None:
    """A worker_init_fn."""


def streamed(world: int = 1) -> Any:
    plain = DataLoader(Stream(), batch_size=2, worker_init_fn=init)
    return prepare_data_loader(plain, num_processes=world, process_index=0)


def given(loader: Any) -> list[Any]:
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize(("world", "own"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 1, 4, 5])])
def test_the_parts_of_a_prepared_stream_are_plain(world: int, own: list[int]) -> None:
    """Before, between and after passes: elements, collate function, and worker_init_fn."""
    loader = streamed(world)
    for _ in range(2):
        assert list(loader.dataset) == own
        assert loader.collate_fn is default_collate
        assert loader.worker_init_fn is init
        rebuilt: Any = DataLoader(loader.dataset, batch_size=2, collate_fn=loader.collate_fn)
        assert given(rebuilt) == given(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_of_the_script_beside_the_loaders_disturbs_none(workers: int) -> None:
    plain = DataLoader(Stream(), batch_size=2, num_workers=workers)
    loader: Any = prepare_data_loader(plain)
    seen = []
    for batch in loader:
        seen += batch.tolist()
        assert list(loader.dataset) == list(range(7))
    assert seen == list(range(7))
    loader.load_state_dict({"epoch": 0, "position": 4})
    assert given(loader) == [[4, 5], [6]]
    assert list(loader.dataset) == list(range(7))


class Known(Dataset[int]):
    """A dataset that knows its sampler, its loader, and itself."""

    def __init__(self) -> None:
        self.sampler = Knowing(self)
        self.dataset = self
        self.epoch = 0
        self.batch_sampler: Any = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


class Knowing(Sampler[int]):
    """A sampler that knows its dataset, and itself."""

    def __init__(self, dataset: Known) -> None:
        self.dataset = dataset
        self.sampler = self

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


@pytest.mark.parametrize("world", [1, 2])
def test_sampler_dataset_and_loader_may_refer_to_each_other(world: int) -> None:
    """Each hears of the epoch."""
    data = Known()
    loader = prepare_data_loader(
        DataLoader(data, batch_size=2, sampler=data.sampler), num_processes=world, process_index=0
    )
    data.batch_sampler = loader
    assert given(loader) == [[0, 1], [2, 3], [4, 5], [6, 7]][::world]
    loader.set_epoch(3)
    assert data.epoch == 3
    assert loader.state_dict()["epoch"] == 3


class Endless(Sampler[int]):
    """0 to 9 again and again; its length is an error."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __len__(self) -> int:
        raise self.error

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(10))


@pytest.mark.parametrize("dispatch", [False, True], ids=["shard", "dispatcher"])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("error", [TypeError, NotImplementedError, ValueError, AttributeError])
def test_a_sampler_without_a_length_is_read(
    error: type[Exception], world: int, dispatch: bool
) -> None:
    """As without `__len__`: until the loop is left, and on from there."""

    def reader() -> Any:
        plain: Any = DataLoader(range(10), sampler=Endless(error), batch_size=3)  # type: ignore[arg-type]  # a range will do
        return prepare_data_loader(
            plain,
            num_processes=world,
            process_index=0,
            dispatch_batches=dispatch,
            put_on_device=dispatch,
        )

    loader, own = reader(), [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 0, 1], [2, 3, 4]]
    step = 1 if dispatch else world  # simulated: the dispatcher knows its own world alone
    assert [batch.tolist() for batch in itertools.islice(loader, 2)] == own[::step][:2]
    again = reader()
    again.load_state_dict(loader.state_dict())
    assert next(iter(again)).tolist() == own[::step][2]
    skipped = skip_first_batches(reader(), 1)
    assert next(iter(skipped)).tolist() == own[::step][1]


def test_a_loader_can_be_pickled_and_copied_whenever() -> None:
    """Before a pass, in one, behind skipped batches: the copy begins at the beginning."""
    loader: Any = prepare_data_loader(DataLoader(range(8), batch_size=2))  # type: ignore[arg-type]  # a range will do
    part: Any = skip_first_batches(loader, 1)
    moments = [iter(()), iter(loader), iter(part)]
    for batches in moments:
        next(batches, None)
        for one in (loader, part):
            for copied in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):  # noqa: S301  # ours
                assert given(copied) == given(one)
    stream = streamed()
    next(iter(stream))
    assert given(pickle.loads(pickle.dumps(stream))) == given(stream)  # noqa: S301


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
def test_first_samples_are_skipped_where_each_is_a_batch(prepared: bool, shuffle: bool) -> None:
    """batch_size=None: the position counts them, too."""

    def made() -> Any:
        own = torch.Generator().manual_seed(1)
        plain: Any = DataLoader(range(6), batch_size=None, shuffle=shuffle, generator=own)  # type: ignore[arg-type]
        return prepare_data_loader(plain) if prepared else plain

    whole = list(made())
    part: Any = skip_first_batches(made(), 2)
    assert len(part) == 4
    if not prepared:
        assert list(part) == whole[2:]
        return
    passed = [(sample, part.state_dict()) for sample in part]
    assert [sample for sample, _ in passed] == whole[2:]
    again = made()
    again.load_state_dict(passed[0][1])
    assert list(again) == whole[3:]
