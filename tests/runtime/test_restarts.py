"""A loader and the default generators, saved after any batch: the rest is as uninterrupted."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from runtime.data.rng import process_states, set_process_states
from runtime.data_loader import prepare_data_loader, skip_first_batches
from tests.samplers import OwnKind

N, BATCH, EPOCHS = 10, 3, 3
Found = list[tuple[list[int], dict[str, Any], dict[str, Any]]]


class Shuffled(Sampler[int]):
    """Draws from the generator of another library when a pass begins."""

    def __init__(self, draw: Callable[[list[int]], Any]) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        order = [*range(N)]
        self.draw(order)
        return iter(order)


SAMPLERS: dict[str, Callable[..., Any]] = {
    "all": lambda generator: RandomSampler(range(N), generator=generator),
    "with replacement": lambda generator: RandomSampler(
        range(N), replacement=True, generator=generator
    ),
    "a subset": lambda generator: SubsetRandomSampler(range(N), generator=generator),
    "weighted": lambda generator: WeightedRandomSampler([1.0] * N, N, generator=generator),
    "by Python's generator": lambda _: Shuffled(random.shuffle),
    "by numpy's generator": lambda _: Shuffled(np.random.shuffle),
}


def generator(*, is_there: bool, seed: int) -> torch.Generator | None:
    return torch.Generator().manual_seed(seed) if is_there else None


def started(order: str, *, own: bool, kind: Any, workers: int) -> Any:
    """A loader as each life of a script makes it."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the generator that old code draws from
    torch.manual_seed(1)
    sampler = SAMPLERS[order](generator(is_there=own, seed=2))
    options: dict[str, Any] = {"batch_size": BATCH, "sampler": sampler}
    if kind is not None:
        options = {"batch_sampler": kind(sampler, BATCH, False)}
    seeds = generator(is_there=own, seed=3)  # of the workers' seeds
    plain: Any = DataLoader(range(N), num_workers=workers, generator=seeds, **options)  # type: ignore[arg-type]  # a range will do
    return prepare_data_loader(plain)


def given(loader: Any, batches: int) -> Found:
    """Batches of several epochs, and all states behind each."""
    found: Found = []
    while len(found) < batches:
        found += [(b.tolist(), loader.state_dict(), process_states()) for b in loader]
        found[-1] = (found[-1][0], loader.state_dict(), process_states())  # between two epochs
    return found


@pytest.mark.parametrize(
    "kind", [None, OwnKind], ids=["torch's batches", "batches of another kind"]
)
@pytest.mark.parametrize("own", [False, True], ids=["default generators", "own generators"])
@pytest.mark.parametrize("order", SAMPLERS)
def test_any_order_goes_on_after_any_batch(order: str, own: bool, kind: Any) -> None:
    """Also the orders of later epochs, and what the default generators draw at the end."""
    for workers, every in ((0, 1), (2, 5)):
        how = {"own": own, "kind": kind, "workers": workers}
        whole = given(started(order, **how), EPOCHS * 4)
        for at in range(0, len(whole) - 1, every):
            again = started(order, **how)
            again.load_state_dict(whole[at][1])
            set_process_states(whole[at][2])
            rest = given(again, len(whole) - at - 1)
            assert [batch for batch, *_ in rest] == [batch for batch, *_ in whole[at + 1 :]]
            assert torch.equal(rest[-1][2]["torch_manual_seed"], whole[-1][2]["torch_manual_seed"])


class Stream(IterableDataset[int]):
    """0 to n-1."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(N))


LIVING: dict[str, Callable[[], dict[str, Any]]] = {  # what a loader is made of
    "an order by torch's default generator": lambda: {"dataset": range(N), "shuffle": True},
    "an order by the loader's own generator": lambda: {
        "dataset": range(N),
        "shuffle": True,
        "generator": torch.Generator().manual_seed(2),
    },
    "a stream, and what is drawn from torch's default generator": lambda: {"dataset": Stream()},
}


@pytest.mark.parametrize("case", LIVING)
def test_a_run_whose_workers_live_on_draws_their_seed_once_for_all_its_lives(case: str) -> None:
    def begun() -> Any:
        torch.manual_seed(1)
        options: dict[str, Any] = {"num_workers": 1, "persistent_workers": True}
        return prepare_data_loader(DataLoader(**LIVING[case](), batch_size=BATCH, **options))

    first = begun()
    whole = given(first, EPOCHS * 4)
    for at in (1, 3, 5, 7):  # in the middle and at the end of an epoch
        for again in (begun(), first):  # another process; the same, which goes back
            again.load_state_dict(whole[at][1])
            set_process_states(whole[at][2])
            rest = given(again, len(whole) - at - 1)
            assert [batch for batch, *_ in rest] == [batch for batch, *_ in whole[at + 1 :]]
            assert torch.equal(rest[-1][2]["torch_manual_seed"], whole[-1][2]["torch_manual_seed"])


def test_workers_of_a_pass_behind_the_first_batches_are_not_those_of_the_next_epoch() -> None:
    def begun() -> Any:
        torch.manual_seed(1)
        options: dict[str, Any] = {"num_workers": 1, "persistent_workers": True}
        return prepare_data_loader(DataLoader(range(N), BATCH, shuffle=True, **options))  # type: ignore[arg-type]  # a range will do

    first = begun()
    part = skip_first_batches(first, 1)
    list(part)
    state, drawn = first.state_dict(), process_states()
    expected = [batch for batch, *_ in given(first, 8)]
    again = begun()
    again.load_state_dict(state)
    set_process_states(drawn)
    assert [batch for batch, *_ in given(again, 8)] == expected


def test_workers_that_begin_anew_do_not_repeat_the_numbers_of_the_first_epoch() -> None:
    def drawn(state: dict[str, Any] | None) -> tuple[list[float], dict[str, Any]]:
        torch.manual_seed(1)
        loader = prepare_data_loader(
            DataLoader(range(2), 2, num_workers=1, persistent_workers=True, collate_fn=_noise)  # type: ignore[arg-type]  # a range will do
        )
        if state is not None:
            loader.load_state_dict(state)
        return next(iter([batch.tolist() for batch in loader])), loader.state_dict()

    first, state = drawn(None)
    second, state = drawn(state)
    third, _ = drawn(state)
    assert len({*first, *second, *third}) == 3 * len(first)


def _noise(samples: list[int]) -> torch.Tensor:
    return torch.rand(len(samples))


def test_two_loaders_that_share_a_generator_go_on_with_it() -> None:
    """One is saved in the middle of an epoch, the other before one that comes first."""

    def script() -> tuple[Any, Any]:
        own = torch.Generator().manual_seed(4)
        made: Any = [
            prepare_data_loader(DataLoader(range(N), BATCH, shuffle=True, generator=own))  # type: ignore[arg-type]  # a range will do
            for _ in range(2)
        ]
        return made[0], made[1]

    def drawn(loader: Any) -> list[list[int]]:
        return [batch.tolist() for batch in loader]

    train, evaluation = script()
    drawn(train)
    states = train.state_dict(), evaluation.state_dict()
    expected = [drawn(evaluation), drawn(train), drawn(evaluation)]
    train, evaluation = script()
    for loader, state in zip((train, evaluation), states, strict=True):
        loader.load_state_dict(state)
    assert [drawn(evaluation), drawn(train), drawn(evaluation)] == expected


def test_a_checkpoint_without_generators_loads() -> None:
    """It was written before they were saved: its position holds, and its order."""
    first = started("all", own=True, kind=None, workers=0)
    passed = given(first, 4)
    state = {k: v for k, v in passed[1][1].items() if k not in ("generators", "drawn_from")}
    again = started("all", own=True, kind=None, workers=0)
    again.load_state_dict(state)
    assert [batch.tolist() for batch in again] == [batch for batch, *_ in passed[2:]]
    again.load_state_dict({"epoch": 2, "position": 0})
    assert again.iteration == 2
