"""A loader and the default generators, saved after any batch: the rest is as uninterrupted."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from runtime.data_loader import prepare_data_loader
from runtime.rng import process_states, set_process_states
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
