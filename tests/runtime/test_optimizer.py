"""The wrapped optimizer: scaling, skipping, copies, and kinds that do more than to step."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.optimizer import AcceleratedOptimizer
from runtime.scheduler import AcceleratedScheduler
from runtime.state import GradientState


class Scaled:
    """A training whose gradients are scaled, as with fp16 on an accelerator."""

    def __init__(self, models: int = 1, **options: Any) -> None:
        self.accelerator = Accelerator(cpu=True, **options)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        self.accelerator.scaler = self.scaler
        self.models = [nn.Linear(1, 1, bias=False) for _ in range(models)]
        for model in self.models:
            nn.init.ones_(model.weight)
            self.accelerator.prepare_model(model)
        sgd = [torch.optim.SGD(model.parameters(), lr=0.5) for model in self.models]
        self.optimizers = [self.accelerator.prepare_optimizer(one) for one in sgd]

    def step(self, *inputs: float, clip: float | None = None) -> list[bool]:
        """One batch of one number for each model; which optimizers left their step out."""
        for model, number in zip(self.models, inputs, strict=True):
            self.accelerator.backward(model(torch.tensor([[number]])).sum())
        if clip is not None and self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(self.models[0].parameters(), clip)
        for optimizer in self.optimizers:
            optimizer.step()
        skipped = [optimizer.step_was_skipped for optimizer in self.optimizers]
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        return skipped

    def weights(self) -> list[float]:
        return [model.weight.item() for model in self.models]


def test_gradients_are_those_without_a_scale() -> None:
    training = Scaled()
    assert training.step(0.25) == [False]
    assert training.weights() == [1 - 0.5 * 0.25]


def test_clipping_sees_the_gradient_without_its_scale() -> None:
    training = Scaled()
    training.step(4.0, clip=1.0)
    assert training.weights() == pytest.approx([0.5], abs=1e-5)


def test_a_step_with_a_gradient_that_is_not_finite_is_left_out() -> None:
    training = Scaled()
    assert training.step(math.inf) == [True]
    assert training.accelerator.optimizer_step_was_skipped
    assert (training.weights(), training.scaler.get_scale()) == ([1.0], 4.0)
    assert training.step(1.0) == [False]
    assert training.weights() == [0.5]


def test_the_scale_grows_after_as_many_finite_steps() -> None:
    training = Scaled()
    assert [training.step(1.0), training.step(1.0)] == [[False], [False]]
    assert training.scaler.get_scale() == 16.0


def test_each_optimizer_answers_for_itself() -> None:
    training = Scaled(models=2)
    assert training.step(1.0, math.inf) == [False, True]
    assert training.weights() == [0.5, 1.0]


def test_a_scheduler_waits_for_a_step_that_was_left_out() -> None:
    training = Scaled()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(training.optimizers[0].optimizer, 0.5)
    prepared = AcceleratedScheduler(scheduler, training.optimizers)
    training.step(1.0)
    prepared.step()
    training.step(math.inf)
    prepared.step()
    assert prepared.get_last_lr() == [0.25]


def test_a_scaled_accumulation_that_is_cut_short_has_its_own_mean() -> None:
    """3 batches in windows of 2: the last one's gradient counts in full."""
    training = Scaled(gradient_accumulation_steps=2)
    loader = training.accelerator.prepare(
        DataLoader(TensorDataset(torch.tensor([1.0, 2.0, 0.5])), batch_size=1)
    )
    seen = []
    for (number,) in loader:
        with training.accelerator.accumulate(training.models[0]):
            training.step(number.item())
        seen += training.weights()
    assert seen == [1.0, 1.0 - 0.5 * 1.5, 1.0 - 0.5 * 1.5 - 0.5 * 0.5]


def prepared(accumulate: int = 1) -> AcceleratedOptimizer:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    return accelerator.prepare_optimizer(torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9))


def pickled(one: AcceleratedOptimizer) -> AcceleratedOptimizer:
    made: AcceleratedOptimizer = pickle.loads(pickle.dumps(one))  # noqa: S301  # its own
    return made


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_follows_the_same_accumulation(copied: Any) -> None:
    """Also one that is made while a loader is iterated."""
    optimizer = prepared()
    loader = Accelerator().prepare(DataLoader(TensorDataset(torch.ones(2)), batch_size=1))
    other = [copied(optimizer) for _ in loader][-1]
    assert other.state_dict() == optimizer.state_dict()
    GradientState().sync_gradients = False
    assert not other.gradient_state.sync_gradients
    assert other.step() is None


def test_a_closure_is_called_and_its_loss_returned() -> None:
    optimizer = prepared()
    assert optimizer.step(lambda: 7.0) == 7.0


def test_a_closure_is_not_called_while_gradients_accumulate() -> None:
    optimizer = prepared()
    GradientState().sync_gradients = False
    assert optimizer.step(lambda: pytest.fail("called")) is None


class ScheduleFree(torch.optim.SGD):
    """An optimizer that has two sets of weights, as schedule-free ones do."""

    mode = "train"

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"


def test_a_schedule_free_optimizer_is_switched() -> None:
    inner = ScheduleFree([nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer = Accelerator(cpu=True).prepare_optimizer(inner)
    modes = []
    for switch in (optimizer.eval, optimizer.train):
        switch()
        modes.append(inner.mode)
    assert modes == ["eval", "train"]


def test_others_have_no_modes() -> None:
    assert (prepared().train(), prepared().eval()) == (None, None)


def test_gradients_are_left_as_accelerate_leaves_them() -> None:
    """Behind the step of a window of 2 batches instead of 4: two quarters of their sum."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = nn.Linear(1, 1, bias=False)
    prepared: Any = accelerator.prepare(
        model,
        torch.optim.SGD(model.parameters(), 0.0),
        DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=1),
    )
    model, optimizer, loader = prepared
    left = []
    for (batch,) in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(batch).sum())
            optimizer.step()
            if accelerator.sync_gradients:
                left.append([one.grad.item() for one in model.parameters()])
            optimizer.zero_grad()
    assert left == [[1.0], [0.5]]
