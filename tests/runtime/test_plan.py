"""What a prepared data loader reads is decided once; its position is a value."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from runtime.config.plugins import DataLoaderConfiguration
from runtime.data.plan import LoaderPlan, plan_of
from runtime.data.position import Position


class Stream(IterableDataset[int]):
    """A dataset that can only be iterated."""

    def __iter__(self) -> Any:
        return iter(range(8))


def planned(data: Any, *, put: bool = True, world: int = 2, **config: Any) -> LoaderPlan:
    return plan_of(
        DataLoader(data, batch_size=2, shuffle=None if isinstance(data, Stream) else True),
        DataLoaderConfiguration(**config),
        world_size=world,
        rank=0,
        device=torch.device("cpu"),
        put_on_device=put,
        rng_types=["torch", "generator"],
        slice_fn=None,
    )


@pytest.mark.parametrize(
    ("data", "options", "is_dispatched"),
    [
        pytest.param(range(8), {}, False, id="a dataset with indices is sharded"),
        pytest.param(Stream(), {}, True, id="a stream is dispatched"),
        pytest.param(Stream(), {"put": False}, False, id="unless its batches stay where they are"),
        pytest.param(Stream(), {"dispatch_batches": False}, False, id="or the script says so"),
        pytest.param(range(8), {"dispatch_batches": True}, True, id="as it may of any dataset"),
    ],
)
def test_who_reads(data: Any, options: dict[str, Any], is_dispatched: bool) -> None:
    assert planned(data, **options).is_dispatched is is_dispatched


def test_a_shuffled_loader_of_several_processes_has_a_generator_in_step() -> None:
    plan = planned(range(8))
    assert plan.generator is plan.sampler.generator is not None
    assert plan.rng_types == ("torch", "generator")


@pytest.mark.parametrize(
    ("data", "options"),
    [
        pytest.param(range(8), {"world": 1}, id="one process"),
        pytest.param(range(8), {"dispatch_batches": True}, id="rank 0 reads for all"),
        pytest.param(Stream(), {"put": False}, id="a stream without a generator"),
    ],
)
def test_without_a_generator_none_is_synchronized(data: Any, options: dict[str, Any]) -> None:
    plan = planned(data, **options)
    assert plan.generator is None
    assert plan.rng_types == ("torch",)


def test_a_plan_is_of_one_rank_of_the_world() -> None:
    with pytest.raises(ValueError, match=r"process_index must be in \[0, num_processes\)"):
        planned(range(8), world=0)


def test_a_plan_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        planned(range(8)).rank = 1  # type: ignore[misc]  # as the test says


STATES: dict[str, dict[str, Any]] = {
    "the beginning of an epoch": {"epoch": 3, "position": 0, "generators": {"order": []}},
    "a beginning with workers that live": {
        "epoch": 1,
        "position": 0,
        "generators": {},
        "workers": torch.ones(2),
        "workers_live": True,
    },
    "the middle of an epoch": {
        "epoch": 0,
        "position": 8,
        "generators": {},
        "order": None,
        "drawn_from": None,
        "workers": None,
        "workers_live": False,
        "dataset": {"state": 1},
    },
    "a state without generators": {"epoch": 2, "position": 0},
}


@pytest.mark.parametrize("case", STATES)
def test_a_position_is_the_state_that_it_was_read_from(case: str) -> None:
    assert Position.of(STATES[case]).state_dict() == STATES[case]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        pytest.param({"epoch": 0}, "must have 'epoch' and 'position', got only", id="no position"),
        pytest.param({}, r"got only \[\]: is it the state of another object", id="nothing"),
        pytest.param({"epoch": -1, "position": 0}, "'epoch' .* >= 0, got -1", id="before it began"),
        pytest.param({"epoch": 0, "position": 1.5}, "'position' .* got 1.5", id="half a sample"),
        pytest.param({"epoch": 0, "position": True}, "'position' .* got True", id="a truth value"),
    ],
)
def test_what_is_no_position_is_an_error(state: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Position.of(state)
