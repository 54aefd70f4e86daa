"""A scheduler goes as many steps as there are processes: at once, and to the same rates."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator as OraclesAccelerator
from accelerate.scheduler import AcceleratedScheduler as Oracle
from accelerate.state import AcceleratorState as OraclesState
from accelerate.state import GradientState as OraclesGradientState
from accelerate.state import PartialState as OraclesPartialState
from torch import nn
from torch.optim import lr_scheduler as schedules

from runtime import Accelerator
from runtime.optim.leaps import can_leap, leap
from runtime.optimizer import AcceleratedOptimizer
from runtime.scheduler import AcceleratedScheduler
from runtime.state import AcceleratorState, GradientState, PartialState

WORLDS = (1, 3, 512)
CALLS = 16
Make = Callable[[torch.optim.Optimizer], Any]


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    Accelerator(cpu=True)
    OraclesAccelerator(cpu=True)
    yield
    for state in (AcceleratorState, OraclesState):
        state._reset_state(reset_partial_state=True)
    for state in (GradientState, OraclesGradientState):
        state._reset_state()


def warm_up(step: int, *, over: Any) -> float:
    """As transformers' schedules are written."""
    if step < over:
        return float(step) / float(max(1, over))
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * step / 5000)))


def warm_up_of_70(step: int) -> float:
    return warm_up(step, over=70)


def chained(optimizer: torch.optim.Optimizer) -> Any:
    return schedules.ChainedScheduler(
        [schedules.ConstantLR(optimizer, 0.5, 30), schedules.ExponentialLR(optimizer, 0.99)]
    )


def sequential(optimizer: torch.optim.Optimizer) -> Any:
    parts = [schedules.LinearLR(optimizer, total_iters=9), schedules.ExponentialLR(optimizer, 0.99)]
    return schedules.SequentialLR(optimizer, parts, [10])


class Own(schedules.StepLR):
    """A script's own kind, of which nothing is known."""


LEAPING: dict[str, Make] = {
    "StepLR": lambda o: schedules.StepLR(o, 7, 0.9),
    "StepLR, each step": lambda o: schedules.StepLR(o, 1, 0.999),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [2, 2, 9, 10, 600, 5000], 0.5),
    "ConstantLR": lambda o: schedules.ConstantLR(o, 0.3, 100),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.1, 0.9, 777),
    "LinearLR, down": lambda o: schedules.LinearLR(o, 1.0, 0.05, 5000),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9995),
    "PolynomialLR": lambda o: schedules.PolynomialLR(o, 3000, 2.0),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 5000),
    "CosineAnnealingLR, waves": lambda o: schedules.CosineAnnealingLR(o, 50),
    "CosineAnnealingLR, waves above a floor": lambda o: schedules.CosineAnnealingLR(o, 700, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 13, 1, 1e-4),
    "CosineAnnealingWarmRestarts, longer": lambda o: schedules.CosineAnnealingWarmRestarts(o, 5, 2),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, 0.4, total_steps=2000),
    "OneCycleLR, three phases": lambda o: schedules.OneCycleLR(
        o, 0.4, total_steps=29, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.01, 0.4, 10, 33),
    "CyclicLR, exponential": lambda o: schedules.CyclicLR(
        o, 0.01, 0.4, 10, mode="exp_range", gamma=0.999
    ),
}
STEPPING: dict[str, Make] = {
    "LambdaLR": lambda o: schedules.LambdaLR(
        o, [lambda e: 0.95 ** (e / 50), lambda e: 1 / (1 + e)]
    ),
    "LambdaLR, a partial": lambda o: schedules.LambdaLR(o, functools.partial(warm_up, over=70)),
    "CyclicLR with a script's function": lambda o: schedules.CyclicLR(
        o, 0.01, 0.4, 10, scale_fn=lambda cycle: 0.9**cycle
    ),
    "MultiplicativeLR": lambda o: schedules.MultiplicativeLR(o, lambda _: 0.999),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "a kind of its own": lambda o: Own(o, 7, 0.9),
    "LambdaLR of an object": lambda o: schedules.LambdaLR(o, Counting()),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, patience=2),
}


class Counting:
    """A script's function that remembers."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, step: int) -> float:
        self.calls.append(step)
        return 1 / (1 + step)


def optimizer() -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.02)]
    return torch.optim.SGD(groups, lr=0.3, momentum=0.5)


def rates(wrap: Any, make: Make, calls: int = CALLS, between: Any = None) -> list[Any]:
    """Everything that is seen of a schedule after each call of `step`."""
    inner = optimizer()
    wrapped = wrap(inner, make(inner))
    arguments = [1.0] if isinstance(wrapped.scheduler, schedules.ReduceLROnPlateau) else []
    inner.step()
    found = []
    for call in range(calls):
        wrapped.step(*arguments)
        if between is not None:
            between(call, inner)
        state = {k: v for k, v in wrapped.state_dict().items() if isinstance(v, int | float)}
        groups = [{k: v for k, v in one.items() if k != "params"} for one in inner.param_groups]
        found.append((state, groups, wrapped.get_last_lr()))
    return found


def ours(inner: torch.optim.Optimizer, scheduler: Any) -> AcceleratedScheduler:
    return AcceleratedScheduler(scheduler, AcceleratedOptimizer(inner))


class _Stepped:
    """What an optimizer of Accelerate's tells a scheduler."""

    step_was_skipped = False


def theirs(_: torch.optim.Optimizer, scheduler: Any) -> Any:
    OraclesPartialState().num_processes = PartialState().num_processes
    return Oracle(scheduler, _Stepped())


def close(found: Any) -> Any:
    """To be compared with: 1e-12 of the value, or of the rates that all begin at."""
    if isinstance(found, dict):
        return {name: close(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(close(value) for value in found)
    return pytest.approx(found, rel=1e-12, abs=1e-15) if isinstance(found, float) else found


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [*LEAPING, *STEPPING])
def test_rates_and_state_are_accelerates(name: str, world: int) -> None:
    PartialState().num_processes = world
    make = (LEAPING | STEPPING)[name]
    assert rates(ours, make) == close(rates(theirs, make))


@pytest.mark.parametrize("world", [2, 64])
@pytest.mark.parametrize("name", LEAPING)
def test_rates_that_a_script_changes_in_between_are_gone_on_from(name: str, world: int) -> None:
    def halve(call: int, inner: torch.optim.Optimizer) -> None:
        if call == 5:
            for group in inner.param_groups:
                group["lr"] /= 2

    PartialState().num_processes = world
    make = LEAPING[name]
    assert rates(ours, make, between=halve) == close(rates(theirs, make, between=halve))


@pytest.mark.parametrize("start", [1, 2, 10, 29, 49, 51, 99, 777])
@pytest.mark.parametrize("name", LEAPING)
def test_from_anywhere_a_leap_is_as_many_steps(name: str, start: int) -> None:
    """Over steps of 2 to 130 at once, and what one step more comes to."""
    for steps in (1, 2, 7, 50, 129):
        stepped, leapt = (LEAPING[name](optimizer()) for _ in range(2))
        room = getattr(stepped, "total_steps", 10**6) - 1
        for scheduler in (stepped, leapt):
            scheduler.optimizer.step()
            for _ in range(min(start, room)):
                scheduler.step()
        gone = leap(leapt, steps) if can_leap(leapt) else 0
        for _ in range(gone):
            stepped.step()
        if gone < room - start:
            for scheduler in (stepped, leapt):
                scheduler.step()
            assert leapt.get_last_lr() == close(stepped.get_last_lr())
            assert leapt.last_epoch == stepped.last_epoch


@pytest.mark.parametrize("name", LEAPING)
def test_known_schedules_do_leap(name: str) -> None:
    scheduler = LEAPING[name](optimizer())
    assert can_leap(scheduler)
    scheduler.optimizer.step()
    scheduler.step()
    assert leap(scheduler, 8) == 8


@pytest.mark.parametrize("name", STEPPING)
def test_others_do_not(name: str) -> None:
    assert not can_leap(STEPPING[name](optimizer()))


SEEN: dict[int, int] = {}
LOG: list[int] = []


def noting(step: int) -> float:
    SEEN[step] = 1
    return 0.5 ** len(SEEN)


def setting_defaults(step: int) -> float:
    SEEN.setdefault(step, 1)
    return 0.5 ** len(SEEN)


def appending(step: int) -> float:
    LOG.append(step)
    return 0.5 ** len(LOG)


@pytest.mark.parametrize("function", [noting, setting_defaults, appending, warm_up_of_70, Counting])
def test_a_scripts_function_is_called_for_every_step(function: Any) -> None:
    """As by Accelerate: whatever it does besides, its rates are the same."""
    PartialState().num_processes = 4
    found = []
    for wrap in (ours, theirs):
        SEEN.clear()
        LOG.clear()
        made = function() if isinstance(function, type) else function
        found.append(rates(wrap, functools.partial(schedules.LambdaLR, lr_lambda=made), calls=5))
    assert found[0] == found[1]
    if function in (noting, setting_defaults):
        assert sorted(SEEN) == list(range(21))
