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
from runtime.optimizer import AcceleratedOptimizer
from runtime.purity import is_pure
from runtime.scheduler import AcceleratedScheduler
from runtime.schedules import can_leap, leap
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
    "LambdaLR": lambda o: schedules.LambdaLR(
        o, [lambda e: 0.95 ** (e / 50), lambda e: 1 / (1 + e)]
    ),
    "LambdaLR, a partial": lambda o: schedules.LambdaLR(o, functools.partial(warm_up, over=70)),
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


def test_a_function_that_remembers_is_called_for_every_step() -> None:
    PartialState().num_processes = 4
    counting, inner = Counting(), optimizer()
    wrapped = ours(inner, schedules.LambdaLR(inner, counting))
    inner.step()
    for _ in range(3):
        wrapped.step()
    assert sorted(set(counting.calls)) == list(range(13))


SEEN: list[int] = []
SCALE = 0.5


def recursive(step: int) -> float:
    return 1.0 if step < 1 else 0.5 * recursive(step - 1)


def remembering(step: int, seen: list[int] = []) -> float:  # noqa: B006  # what is tested
    seen.append(step)
    return 1.0


def raising(step: int) -> float:
    if step > 10:
        raise ValueError
    return 1.0


@pytest.mark.parametrize(
    ("function", "pure"),
    [
        pytest.param(lambda e: 0.9**e, True, id="an expression"),
        pytest.param(lambda e: SCALE * math.sqrt(e), True, id="a global number, and math"),
        pytest.param(functools.partial(warm_up, over=7), True, id="a partial of a function"),
        pytest.param(recursive, True, id="a recursion"),
        pytest.param(lambda e: SEEN[e], False, id="a global list"),
        pytest.param(remembering, False, id="a default that is a list"),
        pytest.param(raising, False, id="one that may raise"),
        pytest.param(lambda e: sum(x for x in range(e)), False, id="a function within"),
        pytest.param(lambda e: float(torch.rand(1)) * e, False, id="another module"),
        pytest.param(functools.partial(warm_up, over=SEEN), False, id="a partial with a list"),
        pytest.param(Counting(), False, id="an object"),
        pytest.param(print, False, id="a builtin that does something"),
    ],
)
def test_what_surely_only_computes(function: Any, pure: bool) -> None:
    assert is_pure(function) is pure
