"""Which generators are kept in step, and by which names."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler

from runtime import Accelerator
from runtime.config.enums import RNGType
from runtime.data.rng import check_rng_types
from runtime.data_loader import prepare_data_loader
from runtime.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    Accelerator(cpu=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Around(Sampler[Any]):
    """A script's own sampler, around another one."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.sampler)


class AroundBatches(Around):
    """The same for batches, by the name that Accelerate's own shards use."""

    def __init__(self, batch_sampler: Any) -> None:
        super().__init__([])
        self.batch_sampler = batch_sampler
        self.batch_size = batch_sampler.batch_size

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batch_sampler)


DATA: Any = range(12)
OWN = torch.Generator().manual_seed(3)


def random() -> RandomSampler:
    return RandomSampler(DATA, generator=OWN)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"sampler": random()}, id="a sampler's"),
        pytest.param({"sampler": Around(random())}, id="that of a sampler in a sampler"),
        pytest.param(
            {"batch_sampler": AroundBatches(BatchSampler(random(), 2, False))},
            id="that of a sampler of a batch sampler in a batch sampler",
        ),
        pytest.param(
            {"batch_sampler": AroundBatches(BatchSampler(Around(Around(random())), 2, False))},
            id="through all of these",
        ),
    ],
)
def test_the_generator_that_an_order_is_drawn_from_is_found(options: dict[str, Any]) -> None:
    loader = prepare_data_loader(
        DataLoader(DATA, **options), num_processes=2, process_index=0, rng_types=["generator"]
    )
    assert loader.synchronized_generator is OWN
    assert loader.rng_types == ["generator"]


def test_kinds_go_by_name_or_by_enum() -> None:
    assert check_rng_types([RNGType.TORCH, "generator"]) == ["torch", "generator"]


def test_a_kind_that_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match=r"rng_types must be of torch, .* got 'dice'"):
        check_rng_types(["dice"])
