"""Gradients of accumulations, also cut short, of several optimizers, in any order of their calls.

The expected gradients are those of Accelerate, given losses that are multiplied by
num_steps / batches in a window that is cut short.
"""

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from tests.states import fresh

STEPS = 4
Operation = Callable[[Any], Any]


class Recording(torch.optim.SGD):
    """Keeps the gradients that it steps with; a learning rate of 0 keeps the models equal."""

    def __init__(self, parameters: Any) -> None:
        self.used: list[list[float | None]] = []
        super().__init__(parameters, lr=0.0)

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        self.used.append(
            [
                None if one.grad is None else one.grad.item()
                for group in self.param_groups
                for one in group["params"]
            ]
        )
        super().step()
        return loss


def unit() -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return model


class Training:
    """Two models, an optimizer each, or two of both models' parameters."""

    def __init__(self, library: str, *, shared: bool = False, prepared: bool = True) -> None:
        made = importlib.import_module(library)
        self.accelerator: Any = made.Accelerator(cpu=True, gradient_accumulation_steps=STEPS)
        self.models: Any = [unit(), unit()]
        owned = [self.models, self.models] if shared else [[one] for one in self.models]
        self.inner = [
            Recording([one for model in models for one in model.parameters()]) for models in owned
        ]
        self.optimizers: Any = self.inner
        self.models = self.accelerator.prepare(*self.models)
        if prepared:
            self.optimizers = self.accelerator.prepare(*self.inner)
        self.factor, self.number = 1.0, torch.zeros(1, 1)

    def run(self, operations: Sequence[Operation], batches: int, epochs: int = 2) -> Any:
        """All gradients that were stepped with."""
        numbers = 2.0 ** torch.arange(batches)[:, None]
        loader = self.accelerator.prepare(DataLoader(TensorDataset(numbers), batch_size=1))
        oracle = not isinstance(self.accelerator, Accelerator)
        for _ in range(epochs):
            for index, (self.number,) in enumerate(loader):
                tail = batches % STEPS if index >= batches // STEPS * STEPS else STEPS
                self.factor = STEPS / tail if oracle else 1.0
                with self.accelerator.accumulate(*self.models):
                    for operation in operations:
                        operation(self)
        return [one.used for one in self.inner]

    def backward(self, which: int, times: float = 1.0) -> None:
        loss = self.models[which](self.number).sum() * (which + 1) * times
        self.accelerator.backward(loss * self.factor)


def back(which: int) -> Operation:
    return lambda training: training.backward(which)


def again(which: int) -> Operation:
    return lambda training: training.backward(which, 3.0)


def step(which: int) -> Operation:
    return lambda training: training.optimizers[which].step()


def zero(which: int) -> Operation:
    return lambda training: training.optimizers[which].zero_grad()


def zeroed_in_place(which: int) -> Operation:
    return lambda training: training.optimizers[which].zero_grad(set_to_none=False)


def clip(which: int) -> Operation:
    def clipped(training: Any) -> None:
        if training.accelerator.sync_gradients:
            training.accelerator.clip_grad_norm_(training.models[which].parameters(), 3.0)

    return clipped


def cleared_by_the_model(which: int) -> Operation:
    def cleared(training: Any) -> None:
        if training.accelerator.sync_gradients:
            training.models[which].zero_grad()

    return cleared


def generator(training: Any) -> None:
    """Its loss goes through the other model, which gets a gradient that it does not want."""
    loss = training.models[1](training.models[0](training.number)).sum()
    training.accelerator.backward(loss * training.factor)


def orders(*parts: Sequence[Operation]) -> Iterator[list[Operation]]:
    """All ways to put sequences into one, each in its order."""
    owners = [which for which, part in enumerate(parts) for _ in part]
    for order in sorted(set(itertools.permutations(owners))):
        waiting = [iter(part) for part in parts]
        yield [next(waiting[which]) for which in order]


SCRIPTS: dict[str, list[list[Operation]]] = {
    "backward, step, zero of two models": [
        *orders((back(0), step(0), zero(0)), (back(1), step(1), zero(1)))
    ],
    "zeroed in place, and by the model": [
        *orders((back(0), step(0), zeroed_in_place(0)), (back(1), step(1), cleared_by_the_model(1)))
    ],
    "clipped": [
        *orders((back(0), clip(0), step(0), zero(0)), (back(1), clip(1), step(1), zero(1)))
    ][::3],
    "several backwards": [
        *orders((back(0), again(0), step(0), zero(0)), (again(1), step(1), zero(1)))
    ],
    "a backward between clipping and the step": [
        *orders((back(0), clip(0), again(0), step(0), zero(0)), (back(1), step(1), zero(1)))
    ][::3],
    "zeroed before backward": [
        *orders((zero(0), back(0), step(0)), (cleared_by_the_model(1), back(1), step(1)))
    ],
    "generator and critic": [
        [zero(1), back(1), again(1), step(1), zero(0), generator, step(0)],
        [back(1), again(1), step(1), zero(1), generator, step(0), zero(0), cleared_by_the_model(1)],
        [generator, step(0), zero(0), zero(1), back(1), clip(1), step(1), zero(1)],
        [generator, clip(0), clip(1), step(0), zero(1), back(1), step(1), zero(1), zero(0)],
    ],
}


@pytest.mark.parametrize("batches", [1, 6])
@pytest.mark.parametrize("script", SCRIPTS)
def test_each_step_has_the_mean_of_its_window_in_any_order_of_calls(
    script: str, batches: int
) -> None:
    for operations in SCRIPTS[script]:
        expected = Training("accelerate").run(operations, batches)
        fresh("accelerate")
        assert Training("runtime").run(operations, batches) == approximately(expected)
        fresh("runtime")


@pytest.mark.parametrize("batches", [1, 6])
def test_optimizers_of_the_same_parameters_step_with_the_same_gradients(batches: int) -> None:
    operations = [back(0), back(1), step(0), step(1), zero(0), zero(1)]
    expected = Training("accelerate", shared=True).run(operations, batches)
    assert Training("runtime", shared=True).run(operations, batches) == approximately(expected)


@pytest.mark.parametrize("batches", [1, 6])
def test_an_optimizer_that_is_not_prepared_steps_with_the_mean_too(batches: int) -> None:
    def stepped(training: Any) -> None:
        if training.accelerator.sync_gradients:
            step(0)(training)
            zero(0)(training)

    operations = [back(0), stepped]
    expected = Training("accelerate", prepared=False).run(operations, batches)
    assert Training("runtime", prepared=False).run(operations, batches) == approximately(expected)


def approximately(nested: Any) -> Any:
    return (
        [approximately(one) for one in nested]
        if isinstance(nested, list)
        else pytest.approx(nested, rel=1e-6)
    )


def test_models_that_are_accumulated_apart_each_have_the_mean_of_their_own_batches() -> None:
    """7 batches in windows of 3: the first model's last window has two, the second's has one."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=3)
    models: Any = accelerator.prepare(unit(), unit())
    inner = [Recording(model.parameters()) for model in models]
    optimizers: Any = accelerator.prepare(*inner)
    numbers = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    loader = accelerator.prepare(DataLoader(TensorDataset(torch.tensor(numbers)), batch_size=1))
    for (number,) in loader:
        for model, optimizer in zip(models, optimizers, strict=True):
            with accelerator.accumulate(model):
                accelerator.backward(model(number[:, None]).sum())
                optimizer.step()
                optimizer.zero_grad()
    windows = [[3.0, 28.0, 96.0 * 3 / 2], [7.0, 56.0, 64.0 * 3]]
    expected = [[[total / 3] for total in own] for own in windows]
    assert [one.used for one in inner] == approximately(expected)


def test_a_backward_behind_the_loop_is_of_no_window() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=STEPS)
    model: Any = accelerator.prepare(unit())
    for (number,) in accelerator.prepare(DataLoader(TensorDataset(torch.ones(6)), batch_size=1)):
        with accelerator.accumulate(model):
            accelerator.backward(model(number[:, None]).sum())
    model.zero_grad()
    accelerator.backward(model(torch.ones(1, 1)).sum())
    assert [one.grad.item() for one in model.parameters()] == [1 / STEPS]


def test_clipping_unscales_only_what_it_clips() -> None:
    """Else what the other optimizer has accumulated is unscaled twice."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    models: Any = accelerator.prepare(unit(), unit())
    inner = [Recording(model.parameters()) for model in models]
    optimizers: Any = accelerator.prepare(*inner)
    for model, optimizer in zip(models, optimizers, strict=True):
        accelerator.backward(models[0](torch.ones(1, 1)).sum() + models[1](torch.ones(1, 1)).sum())
        accelerator.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        optimizer.zero_grad()
    assert [one.used for one in inner] == [[[1.0]], [[2.0]]]
