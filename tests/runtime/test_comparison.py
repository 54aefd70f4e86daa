"""When the tensors of this rank are digested: at the same steps on all ranks, or never."""

import math
from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from runtime.data.loader import DataLoaderShard
from runtime.loop.comparison import Comparison
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState


@pytest.fixture
def state() -> Iterator[GradientState]:
    GradientState._reset_state()
    yield GradientState()
    GradientState._reset_state()


class Told:
    """What is told to the coordinator."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.names: set[str] = set()

    def __call__(self, steps: int, digests: Mapping[str, int]) -> None:
        self.steps.append(steps)
        self.names |= digests.keys()


def prepared() -> tuple[Prepared, nn.Module]:
    model = nn.Linear(2, 1)
    optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), momentum=0.9))
    return Prepared(models=[model], optimizers=[optimizer]), model


def told(comparison: Comparison, boundaries: Iterator[int] | range) -> Told:
    found = Told()
    for steps in boundaries:
        if steps >= comparison.next_step:
            comparison.compare(steps, None, found)
    return found


def test_digests_are_due_at_the_multiples_of_the_cadence(state: GradientState) -> None:
    found = told(Comparison(4, state, prepared()[0]), range(1, 14))
    assert found.steps == [4, 8, 12]
    assert found.names == {"model 0: weight", "model 0: bias"}


def test_a_boundary_that_was_missed_is_made_up_for_at_the_next(state: GradientState) -> None:
    """A step at the end of a pass has no boundary of its own."""
    assert told(Comparison(4, state, prepared()[0]), range(3, 20, 3)).steps == [6, 9, 12, 18]


def test_without_a_cadence_nothing_is_due(state: GradientState) -> None:
    assert Comparison(None, state, prepared()[0]).next_step == math.inf


def test_nothing_is_digested_within_an_accumulation(state: GradientState) -> None:
    comparison = Comparison(1, state, prepared()[0])
    state.sync_gradients = False
    assert told(comparison, range(1, 5)).steps == []
    state.sync_gradients = True
    assert told(comparison, range(5, 6)).steps == [5]


def test_nothing_is_digested_while_gradients_wait_for_a_step(state: GradientState) -> None:
    """A script may accumulate by itself."""
    objects, model = prepared()
    comparison = Comparison(1, state, objects)
    state.listener = object()  # type: ignore[assignment]  # whoever listens needs to know it
    model(torch.ones(1, 2)).sum().backward()
    assert told(comparison, range(1, 2)).steps == []


def test_ranks_that_were_apart_are_never_compared_again(
    state: GradientState, caplog: pytest.LogCaptureFixture
) -> None:
    """LocalSGD averages the weights, and not the states of the optimizers."""
    comparison = Comparison(1, state, prepared()[0])
    mark = object()
    state.part(mark)
    state.apart.discard(mark)
    assert told(comparison, range(1, 9)).steps == []
    assert caplog.text.count("train apart") == 1


def loader(rng_types: list[str] | None) -> DataLoaderShard:
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.ones(4, 2))
    return DataLoaderShard(data, rng_types=rng_types, synchronized_generator=generator)


@pytest.mark.parametrize(
    ("rng_types", "counts"), [(["generator"], True), (["torch"], False), (None, False)], ids=str
)
def test_a_generator_counts_if_the_pass_has_synchronized_it(
    state: GradientState, rng_types: list[str] | None, counts: bool
) -> None:
    found = Told()
    Comparison(1, state, prepared()[0]).compare(1, loader(rng_types), found)
    assert ("generator of the data loader" in found.names) == counts
