"""What a script has set on its loader, sampler or dataset reaches the prepared loader."""

import pickle
from collections.abc import Iterator
from typing import Any

import accelerate.data_loader as theirs
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler

import runtime.data_loader as ours


def numbers(n: int) -> Any:
    return range(n)


class Stream(IterableDataset[int]):
    """0 to 11; may have a generator, and may want the epoch."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(12))


def twice(elements: list[int]) -> torch.Tensor:
    return 2 * torch.tensor(elements)


def nothing(_: int) -> None:
    """A worker_init_fn."""


SETTINGS: dict[str, Any] = {
    "num_workers": 2,
    "timeout": 7,
    "prefetch_factor": 3,
    "persistent_workers": True,
    "multiprocessing_context": "spawn",
    "in_order": False,
    "generator": torch.Generator(),
}
LOADERS: dict[str, dict[str, Any]] = {
    "shard": {},
    "dispatcher": {"put_on_device": True, "dispatch_batches": True},
}


@pytest.mark.parametrize("how", LOADERS)
@pytest.mark.parametrize("data", [numbers(12), Stream()], ids=["indices", "stream"])
def test_settings_are_kept_also_without_the_first_batches(data: Any, how: str) -> None:
    plain: DataLoader[int] = DataLoader(data, 2, **SETTINGS)
    prepared = ours.prepare_data_loader(plain, non_blocking=True, **LOADERS[how])
    for one in (prepared, ours.skip_first_batches(prepared, 1)):
        assert isinstance(one, (ours.DataLoaderShard, ours.DataLoaderDispatcher))
        assert isinstance(one, DataLoader)
        assert one._non_blocking
        kept = {name: getattr(one, name) for name in SETTINGS}
        kept["multiprocessing_context"] = kept["multiprocessing_context"].get_start_method()
        wanted = dict(SETTINGS)
        if how == "dispatcher":  # as accelerate: all processes draw from their default one
            wanted["generator"] = None
        assert kept == wanted


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("data", [numbers(12), Stream()], ids=["indices", "stream"])
def test_the_scripts_own_functions_are_called(data: Any, workers: int) -> None:
    plain: DataLoader[int] = DataLoader(
        data, 5, num_workers=workers, collate_fn=twice, worker_init_fn=nothing
    )
    found = [batch.tolist() for batch in ours.prepare_data_loader(plain)]
    assert found == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18], [20, 22]]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("how", LOADERS)
@pytest.mark.parametrize("data", [numbers(12), Stream()], ids=["indices", "stream"])
def test_a_prepared_loader_is_pickled_with_its_place(data: Any, how: str, world: int) -> None:
    plain: DataLoader[int] = DataLoader(data, 2)
    loader = ours.prepare_data_loader(plain, None, world, 0, **LOADERS[how])
    whole = [batch.tolist() for batch in loader]
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301  # what was just written
    assert type(again) is type(loader)
    assert again.iteration == loader.iteration == 1
    assert [batch.tolist() for batch in again] == whole


class Epochs:
    """Keeps the epochs that it is told."""

    told: list[int]

    def set_epoch(self, epoch: int) -> None:
        self.__dict__.setdefault("told", []).append(epoch)


class EpochSampler(Epochs, Sampler[int]):
    """0 to 3."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


class EpochBatches(Epochs, BatchSampler):
    """Batches of a sampler."""


class EpochStream(Epochs, Stream):
    """A stream."""


class EpochData(Epochs, list[int]):
    """Numbers."""


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("skipped", [False, True])
def test_all_that_want_the_epoch_are_told_it_through_all_wrappers(
    skipped: bool, world: int
) -> None:
    """Once each; accelerate 1.15 tells a sampler or the dataset, and not both."""
    data: Any = EpochData(range(4))
    batches = EpochBatches(EpochSampler(), 2, False)
    stream = EpochStream()
    for plain in (DataLoader(data, batch_sampler=batches), DataLoader(stream, 2)):
        loader: Any = ours.prepare_data_loader(plain, None, world, 0)
        if skipped:
            loader = ours.skip_first_batches(loader, 1)
        for _ in range(2):
            list(loader)
        loader.set_epoch(7)
    told: list[Any] = [data, batches, batches.sampler, stream]
    assert [one.told for one in told] == [[0, 1, 7]] * 4


def test_a_dataset_and_samplers_without_epochs_are_left_alone() -> None:
    loader = ours.prepare_data_loader(DataLoader(numbers(4), 2))
    loader.set_epoch(3)
    assert loader.iteration == 3


class Drawing(Stream):
    """An order that is drawn from a generator of the dataset's own."""

    def __init__(self) -> None:
        self.generator = torch.Generator()

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(12, generator=self.generator).tolist())


def test_a_datasets_own_generator_is_set_to_the_epoch() -> None:
    """As accelerate does, once somebody has set the epoch; before, it raises an error."""
    found = {}
    for library in (ours, theirs):
        shard = library.IterableDatasetShard(Drawing(), 3, False, 2, 0)
        shard.set_epoch(5)
        found[library] = list(shard)
    assert found[ours] == found[theirs]
    assert len(list(ours.IterableDatasetShard(Drawing(), 3, False, 2, 0))) == 6
    with pytest.raises(AttributeError, match="epoch"):
        list(theirs.IterableDatasetShard(Drawing(), 3, False, 2, 0))


class DrawingBatches(BatchSampler):
    """A batch sampler with a generator, over a sampler without."""

    def __init__(self) -> None:
        super().__init__(range(12), 3, False)
        self.generator = torch.Generator()


def test_the_generator_to_keep_in_step_is_found_wherever_it_is() -> None:
    """A sampler's own, a new one for it, a batch sampler's, an iterable dataset's."""
    own = torch.Generator()
    batches, stream = DrawingBatches(), Drawing()
    sampler = RandomSampler(range(12))
    rows: list[tuple[DataLoader[int], Any]] = [
        (DataLoader(numbers(12), sampler=RandomSampler(range(12), generator=own)), own),
        (DataLoader(numbers(12), batch_sampler=batches), batches.generator),
        (DataLoader(stream, 2), stream.generator),
        (DataLoader(numbers(12)), None),
    ]
    for plain, generator in rows:
        loader: Any = ours.prepare_data_loader(plain, None, 2, 0, rng_types=["generator"])
        assert loader.synchronized_generator is generator
        assert loader.rng_types == (["generator"] if generator else [])
    loader = ours.prepare_data_loader(DataLoader(numbers(12), sampler=sampler), None, 2, 0)
    assert loader.synchronized_generator is sampler.generator is not None


@pytest.mark.parametrize("world", [1, 2])
def test_elements_of_a_stream_may_be_batches(world: int) -> None:
    """Without a batch size; rank i of n has the elements i, i+n, ..."""
    for rank in range(world):
        plain: DataLoader[int] = DataLoader(Stream(), None)
        loader = ours.prepare_data_loader(plain, None, world, rank)
        assert list(loader) == [*range(12)][rank::world]
        assert loader.total_batch_size == world


@pytest.mark.parametrize(
    ("plain", "options", "sentence"),
    [
        ((5, None), {"split_batches": True}, r"batch size \(5\) needs to be a round multiple"),
        ((2, [[0], [1, 2]]), {"split_batches": True}, "must have a `batch_size` attribute"),
        ((2, None), {"dispatch_batches": True}, "requires `put_on_device=True`"),
        ((2, None), {"shuffle": "best"}, "must be torch or keyed, got 'best'"),
        ((None, None), {}, "needs a BatchSampler as its sampler"),
    ],
    ids=["uneven split", "split of any size", "dispatched nowhere", "shuffle", "no batches"],
)
def test_what_cannot_be_done_is_refused(plain: Any, options: Any, sentence: str) -> None:
    size, batches = plain
    loader: DataLoader[int] = (
        DataLoader(numbers(12), size)
        if batches is None
        else DataLoader(numbers(12), batch_sampler=batches)
    )
    with pytest.raises(ValueError, match=sentence):
        ours.prepare_data_loader(loader, None, 2, 0, **options)


def test_a_keyed_order_draws_every_sample_once_or_not_at_all() -> None:
    sampler = RandomSampler(range(12), replacement=True)
    with pytest.raises(ValueError, match="draws every sample once"):
        ours.prepare_data_loader(DataLoader(numbers(12), sampler=sampler), shuffle="keyed")
