"""The order of gradients: recorded once, parsed strictly, and followed by torch's own layout.

A process alone lays out its buckets as each process of a world does.
"""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.parallel import arrivals, reducer
from runtime.parallel.arrivals import FACT, Order

distributed: Any = torch.distributed  # torch exports some of its names to no type checker
GradBucket: Any = distributed.GradBucket
ORDER = (1, 0, 5, 4, 3, 2)  # not that of any backward of `replica`
BACKWARD = (5, 4, 3, 2, 1, 0)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """A world of one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def replica(**options: Any) -> Any:
    """A model with several buckets, whose order is recorded."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 30), nn.Linear(30, 20), nn.Linear(20, 1))
    made = DistributedDataParallel(net, **{"bucket_cap_mb": 0.0004} | options)
    arrivals.record(made)
    return made


def train(model: Any, steps: int = 1) -> None:
    """Accumulate gradients."""
    for _ in range(steps):
        model(torch.ones(2, 4)).sum().backward()


def layout(model: Any) -> list[list[int]]:
    """The buckets: the indices of their parameters."""
    index = {id(one): i for i, one in enumerate(model.parameters())}
    buckets = model.reducer._get_zeros_like_grad_buckets()
    return [[index[id(one)] for one in bucket.parameters()] for bucket in buckets]


def hooks(model: Any) -> int:
    """The number of hooks of parameters."""
    return sum(len(one._post_accumulate_grad_hooks or ()) for one in model.parameters())


def entry(indices: tuple[int, ...] = ORDER, wait: int = 0) -> Any:
    """A manifest."""
    return {FACT: [{"indices": list(indices), "wait": wait}]}


def recorded(model: Any) -> Any:
    """The entry of a checkpoint."""
    return arrivals.facts([model])


class TestWithTheInstalledTorch:
    """These fail if torch changes what `reducer` uses."""

    def test_nothing_is_missing(self) -> None:
        assert reducer.missing(replica()) == []
        assert reducer.obstacle(replica()) is None

    @pytest.mark.parametrize("options", [{}, {"static_graph": True}, {"bucket_cap_mb": 25}])
    def test_the_layout_of_an_order_is_the_one_that_torch_makes_of_it(
        self, options: dict[str, Any]
    ) -> None:
        trained, resumed = replica(**options), replica(**options)
        before = layout(trained)
        train(trained, 3)
        arrivals.follow([resumed], json.loads(json.dumps(recorded(trained))))
        assert layout(resumed) == layout(trained) != before
        train(resumed, 3)
        assert layout(resumed) == layout(trained)
        assert recorded(resumed) == recorded(trained) == entry(BACKWARD)

    def test_the_layout_follows_an_order_that_no_backward_has(self) -> None:
        model = replica()
        arrivals.follow([model], entry())
        train(model, 3)
        assert list(itertools.chain(*layout(model))) == list(ORDER)
        assert len(layout(model)) > 1
        assert recorded(model) == entry()


class TestAnOrderIsRecorded:
    """In the first synchronized iteration, without a cost afterwards."""

    def test_it_is_known_once_the_iteration_is_over_and_the_hooks_are_gone(self) -> None:
        model = replica()
        assert recorded(model) == {}
        assert hooks(model) == len(BACKWARD)
        train(model)
        assert recorded(model) == entry(BACKWARD)
        assert hooks(model) == 0

    def test_accumulated_gradients_do_not_count(self) -> None:
        model = replica()
        with model.no_sync():
            train(model)
        assert recorded(model) == {}
        train(model)
        assert recorded(model) == entry(BACKWARD)

    def test_a_static_graph_is_laid_out_after_two_iterations(self) -> None:
        model = replica(static_graph=True)
        waits = []
        for _ in range(4):
            train(model)
            waits.append(recorded(model)[FACT][0]["wait"])
        assert waits == [1, 0, 0, 0]
        assert hooks(model) == 0

    def test_a_resumed_static_graph_waits_for_the_second_iteration(self) -> None:
        model = replica(static_graph=True)
        first = layout(model)
        arrivals.follow([model], entry(wait=1))
        found = []
        for _ in range(3):
            train(model)
            found.append((layout(model), recorded(model)))
        assert [one == first for one, _ in found] == [True, False, False]
        assert [one for _, one in found] == [entry()] * 3
        assert not model._forward_pre_hooks

    @pytest.mark.parametrize("steps", [0, 1])
    def test_models_without_a_second_layout_have_none(self, steps: int) -> None:
        model = replica(find_unused_parameters=True)
        train(model, steps)
        assert hooks(model) == 0
        assert recorded(model) == {}
        arrivals.follow([model], entry())

    def test_a_model_that_was_trained_before_is_not_recorded(self) -> None:
        model = replica()
        trained = DistributedDataParallel(model.module)
        train(trained, 2)
        arrivals.record(trained)
        assert recorded(trained) == {}

    def test_each_model_has_its_own(self) -> None:
        models = [replica(), replica(), nn.Linear(1, 1)]
        train(models[1])
        assert arrivals.facts(models) == {FACT: [None, *entry(BACKWARD)[FACT], None]}
        assert arrivals.are_kept(models)
        assert not arrivals.are_kept(models[2:])


class TestAnOrderIsFollowed:
    """Only the buckets change."""

    @pytest.mark.parametrize("options", [{}, {"gradient_as_bucket_view": True}])
    @pytest.mark.parametrize("steps", [0, 1, 2])
    def test_weights_gradients_and_random_numbers_stay(
        self, steps: int, options: dict[str, Any]
    ) -> None:
        model, other = replica(**options), replica(**options)
        for one in (model, other):
            train(one, steps)
        states = torch.get_rng_state(), random.getstate()
        arrivals.follow([model], entry())
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        for _ in range(2):
            for own, known in zip(model.parameters(), other.parameters(), strict=True):
                assert torch.equal(own, known)
                assert (own.grad is None) == (known.grad is None)
                assert own.grad is None or torch.equal(own.grad, known.grad)
            train(model)
            train(other)

    def test_a_second_load_does_nothing(self) -> None:
        model = replica()
        arrivals.follow([model], entry())
        made = model.reducer
        arrivals.follow([model], entry())
        assert model.reducer is made

    def test_a_communication_hook_stays(self) -> None:
        model = replica()
        sizes: list[int] = []

        def hook(state: list[int], bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
            state.append(bucket.buffer().numel())
            future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        model.register_comm_hook(sizes, hook)
        arrivals.follow([model], entry())
        assert sizes == []
        train(model)
        assert sum(sizes) == sum(one.numel() for one in model.parameters())


def without_helper(model: Any) -> None:
    model._ddp_init_helper = None


def with_another_helper(model: Any) -> None:
    model._ddp_init_helper = lambda parameters: parameters


def with_builtin_hook(model: Any) -> None:
    model._register_builtin_comm_hook(distributed.BuiltinCommHookType.ALLREDUCE)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_helper, "does not have _ddp_init_helper as expected"),
        (with_another_helper, "does not have _ddp_init_helper as expected"),
        (with_builtin_hook, "built-in communication hook"),
    ],
)
def test_if_the_layout_cannot_be_made_that_is_said_and_the_training_goes_on(
    change: Any, why: str, said: list[str]
) -> None:
    model = replica()
    change(model)
    before = layout(model)
    arrivals.follow([model], entry())
    assert layout(model) == before
    assert why in said[0]
    assert "may differ in its last bits" in said[0]
    train(model, 2)
    assert recorded(model) == entry(BACKWARD)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings."""
    found: list[str] = []
    monkeypatch.setattr(
        arrivals.logger, "warning", lambda text, *values: found.append(text % values)
    )
    return found


INDICES = list(ORDER)
FORGED: dict[str, Any] = {
    "no list": {"indices": INDICES, "wait": 0},
    "a number": [7],
    "a key too many": [{"indices": INDICES, "wait": 0, "more": 0}],
    "a key too few": [{"indices": INDICES}],
    "text for indices": [{"indices": "102345", "wait": 0}],
    "an index twice": [{"indices": [1, 0, 5, 4, 3, 3], "wait": 0}],
    "a negative index": [{"indices": [-1, 0, 5, 4, 3, 2], "wait": 0}],
    "a large index": [{"indices": [2**70, 0, 5, 4, 3, 2], "wait": 0}],
    "a fraction": [{"indices": [1.0, 0, 5, 4, 3, 2], "wait": 0}],
    "a boolean": [{"indices": [True, 0, 5, 4, 3, 2], "wait": 0}],
    "a list as index": [{"indices": [[], 0, 5, 4, 3, 2], "wait": 0}],
    "another number of parameters": [{"indices": [1, 0, 2], "wait": 0}],
    "no parameters": [{"indices": [], "wait": 0}],
    "a long wait": [{"indices": INDICES, "wait": 2}],
    "a negative wait": [{"indices": INDICES, "wait": -1}],
    "a boolean wait": [{"indices": INDICES, "wait": False}],
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_what_is_no_order_is_not_followed(forged: Any, said: list[str]) -> None:
    model = replica()
    before = layout(model)
    arrivals.follow([model], {FACT: forged})
    assert layout(model) == before
    assert len(said) == 1


@pytest.mark.parametrize("manifest", [{}, {FACT: None}, {FACT: []}, {FACT: [None]}])
def test_a_checkpoint_without_an_order_is_loaded_silently(manifest: Any, said: list[str]) -> None:
    model = replica()
    arrivals.follow([model], manifest)
    assert said == []
    assert hooks(model) == len(BACKWARD)


@given(st.permutations(range(7)), st.integers(0, 1))
def test_an_order_is_read_as_it_was_written(indices: list[int], wait: int) -> None:
    order = Order(tuple(indices), wait)
    assert Order.of(json.loads(json.dumps(order.fact()))) == order
