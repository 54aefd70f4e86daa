"""torchdata's StatefulDataLoader: passed to `prepare`, and returned by it."""

import importlib
import itertools
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import runtime
from runtime import Accelerator, DataLoaderConfiguration
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard
from tests.states import fresh

StatefulDataLoader: Any = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
# torchdata's own, as it makes a loader with a torch that has deprecated what it calls.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


@pytest.fixture(autouse=True)
def _fresh_states() -> Iterator[None]:
    yield
    fresh()


NUMBERS: Any = range(9)


class Counter(IterableDataset[int]):
    """0 to 22, with a state as torchdata asks for; it counts what it reads."""

    def __init__(self) -> None:
        self.following = 0
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        while self.following < 23:
            self.following += 1
            self.read += 1
            yield self.following - 1
        self.following = 0

    def state_dict(self) -> dict[str, int]:
        return {"following": self.following}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.following = state["following"]


def accelerator(**options: Any) -> Accelerator:
    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))


def passes(loader: Any, epochs: int = 2) -> list[list[list[int]]]:
    return [[batch.tolist() for batch in loader] for _ in range(epochs)]


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize(
    ("data", "dispatch", "ours"),
    [
        pytest.param(range(9), None, DataLoaderShard, id="indices"),
        pytest.param(Counter(), None, DataLoaderDispatcher, id="a stream that rank 0 reads"),
        pytest.param(Counter(), False, DataLoaderShard, id="a stream that each rank reads"),
    ],
)
def test_a_prepared_loader_is_one_if_that_is_set(
    kind: Any, data: Any, dispatch: bool | None, ours: type
) -> None:
    for is_set in (True, False):
        prepare = accelerator(use_stateful_dataloader=is_set, dispatch_batches=dispatch)
        loader = prepare.prepare(kind(data, batch_size=2))
        for one in (loader, prepare.skip_first_batches(loader, 1)):
            assert isinstance(one, ours)
            assert isinstance(one, StatefulDataLoader) == is_set


def test_every_method_of_it_is_replaced() -> None:
    """So that none can miss what its constructor would have set."""
    own = {name for name, one in vars(StatefulDataLoader).items() if callable(one)}
    stateful = importlib.import_module("runtime.data.stateful")
    for kind in (stateful.StatefulDataLoaderShard, stateful.StatefulDataLoaderDispatcher):
        shared = {one for one in own if getattr(kind, one) is getattr(StatefulDataLoader, one)}
        assert not shared - {"__class_getitem__", "__init_subclass__"}


def test_it_can_be_pickled() -> None:
    own = accelerator(use_stateful_dataloader=True)
    loader: Any = own.prepare(DataLoader(NUMBERS, batch_size=2))
    assert passes(pickle.loads(pickle.dumps(loader))) == passes(loader)  # noqa: S301  # our own bytes


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_its_order_is_that_of_accelerate(shuffle: bool, is_set: bool, drop_last: bool) -> None:
    found = []
    for library in ("runtime", "accelerate"):
        torch.manual_seed(3)
        home = importlib.import_module(f"{library}.utils")
        config = home.DataLoaderConfiguration(use_stateful_dataloader=is_set)
        made = importlib.import_module(library).Accelerator(cpu=True, dataloader_config=config)
        script = StatefulDataLoader(
            range(23), batch_size=4, shuffle=shuffle, drop_last=drop_last, num_workers=0
        )
        found.append(passes(made.prepare(script)))
        fresh()
    assert found[0] == found[1]


SETTINGS = [
    dict(zip(("is_set", "shuffle", "seedable"), values, strict=True))
    for values in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("at", [1, 3, 5])
def test_it_is_resumed_at_the_batch(settings: dict[str, bool], at: int) -> None:
    """In the second epoch, by a loader of another process, which has drawn other numbers."""

    def made(seed: int) -> Any:
        torch.manual_seed(seed)
        own = accelerator(
            use_stateful_dataloader=settings["is_set"],
            use_seedable_sampler=settings["seedable"],
            data_seed=7,
        )
        return own.prepare(StatefulDataLoader(range(23), 4, shuffle=settings["shuffle"]))

    loader = made(1)
    passes(loader, 1)
    batches = iter(loader)
    before = [next(batches).tolist() for _ in range(at)]
    saved = pickle.loads(pickle.dumps(loader.state_dict()))  # noqa: S301  # our own bytes
    rest = [batch.tolist() for batch in batches]
    following = passes(loader)
    fresh()
    again = made(2)
    again.load_state_dict(saved)
    assert [batch.tolist() for batch in again] == rest
    assert passes(again) == following
    assert sorted(itertools.chain(*before, *rest)) == list(range(23))


def test_a_dataset_with_a_state_is_not_read_again() -> None:
    def made() -> Any:
        own = accelerator(use_stateful_dataloader=True, dispatch_batches=False)
        return own.prepare(StatefulDataLoader(Counter(), batch_size=4))

    loader = made()
    batches = iter(loader)
    next(batches), next(batches)
    saved = loader.state_dict()
    again = made()
    again.load_state_dict(saved)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
    assert again.dataset.read <= 23 - 8


def test_workers_resume_it_too() -> None:
    own = accelerator(use_stateful_dataloader=True)
    loader = own.prepare(StatefulDataLoader(range(23), batch_size=4, shuffle=True, num_workers=2))
    batches = iter(loader)
    next(batches)
    saved, rest = loader.state_dict(), [batch.tolist() for batch in batches]
    loader.load_state_dict(saved)
    assert passes(loader, 1) == [rest]


def test_a_seedable_order_replaces_its_sampler() -> None:
    """Its RandomSampler is no subclass of torch's."""
    orders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        own = accelerator(use_seedable_sampler=True, data_seed=7)
        orders.append(passes(own.prepare(StatefulDataLoader(range(23), 4, shuffle=True))))
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


def test_a_state_that_was_loaded_before_is_an_error() -> None:
    before = StatefulDataLoader(range(23), batch_size=4)
    next(iter(before))
    script = StatefulDataLoader(range(23), batch_size=4)
    script.load_state_dict(before.state_dict())
    with pytest.raises(ValueError, match="load the state of the prepared data loader"):
        accelerator().prepare(script)


def test_without_torchdata_the_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchdata", None)  # as Python marks what cannot be imported
    script = DataLoader(NUMBERS)
    assert len(runtime.prepare_data_loader(script)) == 9
    with pytest.raises(ImportError, match=r"pip install acceleratedjob\[torchdata\]"):
        runtime.prepare_data_loader(script, use_stateful_dataloader=True)
