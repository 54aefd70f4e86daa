"""The objects that an Accelerator is made of work without it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.checkpoint.checkpointer import Checkpointer
from runtime.checkpoint.registry import Registry
from runtime.collectives.trigger import Trigger
from runtime.config.plugins import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
)
from runtime.optim.accumulation import Accumulation
from runtime.parallel.compile import TorchDynamoPlugin
from runtime.preparation.prepared import Prepared
from runtime.preparation.preparer import Options, Preparer
from runtime.trackers.base import GeneralTracker
from runtime.trackers.running import Trackers
from runtime.world.gradient_state import GradientState
from runtime.world.state import AcceleratorState


class Loader:
    """A data loader of which only the end is known."""

    end_of_dataloader = False
    remainder = 0


class Local:
    """Counts the models whose gradients are kept local."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0

    @contextlib.contextmanager
    def __call__(self, _model: nn.Module) -> Iterator[None]:
        self.entered += 1
        yield
        self.left += 1


@pytest.fixture
def state() -> AcceleratorState:
    return AcceleratorState(
        cpu=True, dynamo_plugin=TorchDynamoPlugin(backend="no"), _from_accelerator=True
    )


def accumulation(model: nn.Module, steps: int) -> tuple[Accumulation, GradientState]:
    shared = GradientState(GradientAccumulationPlugin(num_steps=steps))
    return Accumulation(shared, parameters=model.parameters), shared


def test_an_accumulation_keeps_gradients_local_until_its_last_batch() -> None:
    model, local = nn.Linear(1, 1), Local()
    made, shared = accumulation(model, 3)
    seen = []
    for _ in range(6):
        with made.accumulate([model], local):
            seen.append((shared.sync_gradients, local.entered, local.left))
    assert seen == [
        *((False, 1, 0), (False, 2, 1), (True, 2, 2)),
        *((False, 3, 2), (False, 4, 3), (True, 4, 4)),
    ]


def test_an_accumulation_that_is_cut_short_is_a_mean_over_its_batches() -> None:
    model, loader, local = nn.Linear(1, 1, bias=False), Loader(), Local()
    made, shared = accumulation(model, 4)
    shared._add_dataloader(loader)
    for batch in range(2):
        loader.end_of_dataloader = batch == 1
        with made.accumulate([model], local):
            loss = made.weighted(model(torch.tensor([[1.0 + 2 * batch]])).sum())
            torch.autograd.backward([loss])
    assert shared.sync_gradients
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 2.0  # of 1 and 3
    assert made.step == 0


class Recorder(GeneralTracker):
    """A tracker that remembers what it was given."""

    name = "recorder"
    requires_logging_directory = False

    def __init__(self, *, everywhere: bool = False) -> None:
        super().__init__()
        self.main_process_only = not everywhere
        self.given: list[Any] = []

    @property
    def tracker(self) -> list[Any]:
        return self.given

    def start(self) -> None:
        self.given.append("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.given.append(values)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.given.append((values, step, kwargs))

    def finish(self) -> None:
        self.given.append("finish")


@pytest.mark.parametrize(
    ("is_main", "everywhere", "receives"),
    [
        pytest.param(True, False, True, id="the main process"),
        pytest.param(False, False, False, id="another process"),
        pytest.param(False, True, True, id="a tracker that runs everywhere"),
    ],
)
def test_trackers_receive_metrics_where_they_run(
    is_main: bool, everywhere: bool, receives: bool
) -> None:
    recorder, trackers = Recorder(everywhere=everywhere), Trackers(is_main=is_main)
    trackers.start([recorder], "digits", None, {"lr": 0.1}, {})
    trackers.log({"loss": 1.0}, 3, {"recorder": {"sync": True}, "another": {"x": 1}})
    trackers.finish()
    expected = ["start", {"lr": 0.1}, ({"loss": 1.0}, 3, {"sync": True}), "finish"]
    assert recorder.given == (expected if receives else [])
    assert trackers.running == [recorder]


@pytest.mark.usefixtures("state")
def test_a_trigger_is_lowered_by_each_check() -> None:
    trigger = Trigger(torch.device("cpu"))
    assert not trigger.check()
    trigger.set()
    assert [trigger.check(), trigger.check()] == [True, False]


def test_a_registry_with_one_wrong_object_registers_none() -> None:
    registry = Registry()
    with pytest.raises(ValueError, match=r"Item at index 1, `object`"):
        registry.add(nn.Linear(1, 1), object())
    assert registry.objects == []


def test_a_hook_is_called_until_its_handle_removes_it() -> None:
    registry = Registry()
    called: list[str] = []
    first = registry.add_save_hook(lambda: called.append("first"))
    second = registry.add_save_hook(lambda: called.append("second"))
    for handle in (first, second):
        for hook in registry.save_hooks.values():
            hook()
        handle.remove()
    assert called == ["first", "second", "second"]
    assert not registry.save_hooks


def test_a_checkpointer_restores_what_it_has_saved(state: AcceleratorState, tmp_path: Path) -> None:
    model, prepared = nn.Linear(2, 2), Prepared()
    prepared.models.append(model)
    made, shared = accumulation(model, 1)
    checkpointer = Checkpointer(
        ProjectConfiguration(),
        state=state,
        gradient_state=shared,
        prepared=prepared,
        accumulation=made,
    )
    checkpointer.registry.add(registered := nn.Linear(1, 1))
    saved, made.step = [one.clone() for one in model.parameters()], 5
    folder = checkpointer.save(tmp_path / "one", scaler=None, safe_serialization=True)
    made.step = 0
    with torch.no_grad():
        for one in (*model.parameters(), *registered.parameters()):
            one.fill_(9)
    checkpointer.load(folder, scaler=None, load_kwargs=None, verify=True, map_location=None)
    assert all(map(torch.equal, model.parameters(), saved))
    assert made.step == 5
    assert float(registered.weight.detach()) != 9


def test_a_preparer_prepares_each_object_once(state: AcceleratorState) -> None:
    prepared = Prepared()
    preparer = Preparer(state, prepared)
    options = Options(
        device=torch.device("cpu"),
        device_placement=True,
        rng_types=["generator"],
        step_scheduler_with_optimizer=True,
        dataloader_config=DataLoaderConfiguration(),
    )
    model = preparer.model(nn.Linear(1, 1), options)
    optimizer = preparer.optimizer(torch.optim.SGD(model.parameters(), 0.1), options)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer.optimizer, 1)
    scheduler = preparer.scheduler(schedule, options)
    assert preparer.model(model, options) is model
    assert preparer.optimizer(optimizer, options) is optimizer
    assert preparer.scheduler(scheduler, options) is scheduler
    assert (prepared.models, prepared.optimizers) == ([model], [optimizer])
    assert prepared.schedulers == [scheduler]
    assert scheduler.optimizers == [optimizer]
    assert prepared.optimizers_of(model.parameters()) == [optimizer]
    assert prepared.optimizers_of([torch.ones(1)]) == []
    preparer.clear()
    assert not prepared.models
    assert not list(prepared.parameters())
