"""Advance a learning rate scheduler by many steps at once, where the result is the same.

Torch's schedulers compute a rate from the step number alone, or multiply the previous rate by a
factor. In the second case, many steps multiply it by the product of their factors, which has a
closed form. The results are equal up to rounding: within a relative error of 1e-12. All other
schedulers must be stepped one by one, also those that call a function of the script, for example
LambdaLR: the function may have side effects.
"""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import lr_scheduler as torch_schedules

Factor = Callable[[Any, int, int], float | None]
_WHOLE = ("last_epoch", "step_size", "total_iters", "T_max", "T_0", "T_mult", "T_cur")


def can_leap(scheduler: Any) -> bool:
    """Whether many steps of a scheduler can be computed at once."""
    is_custom = getattr(scheduler, "_scale_fn_custom", None) is not None  # a function for CyclicLR
    return type(scheduler) in _FACTORS and not is_custom


def leap(scheduler: Any, steps: int) -> int:
    """Advance a scheduler by up to `steps` steps at once.

    The caller must call `scheduler.step()` afterwards, which computes the rates that depend on the
    step number alone. So a scheduler with `total_steps` is advanced at most to the step before its
    last one.

    Args:
        scheduler: a scheduler for which `can_leap` is true.
        steps: the largest number of steps.

    Returns:
        The number of steps by which it was advanced; 0 if it must be stepped one by one.
    """
    counts = type(scheduler).step is torch_schedules.LRScheduler.step  # it counts in `_step_count`
    count = scheduler._step_count  # noqa: SLF001  # torch has no public attribute
    steps = min(steps, getattr(scheduler, "total_steps", count + steps) - count)
    may_warn = counts and count <= 1  # torch warns if the optimizer has not stepped yet
    if steps < 1 or may_warn or not _is_usual(scheduler):
        return 0
    start = scheduler.last_epoch
    factor = _FACTORS[type(scheduler)](scheduler, start, start + steps)
    if factor is None:
        return 0
    scheduler.last_epoch += steps
    scheduler._step_count += steps if counts else 0  # noqa: SLF001
    floor = getattr(scheduler, "eta_min", 0.0)
    for group in scheduler.optimizer.param_groups:
        group["lr"] = (group["lr"] - floor) * factor + floor
    return steps


def _is_usual(scheduler: Any) -> bool:
    """Whether the numbers are Python numbers, and `step` and `get_lr` are not replaced."""
    own = vars(scheduler)
    return (
        all(isinstance(own.get(name, 0), int) for name in _WHOLE)
        and own.keys().isdisjoint(("step", "get_lr"))
        and all(isinstance(one["lr"], int | float) for one in scheduler.optimizer.param_groups)
    )


def _by_number(_scheduler: Any, _start: int, _stop: int) -> float:
    """Return 1: the rate depends on the step number alone."""
    return 1.0


def _step(scheduler: Any, start: int, stop: int) -> float:
    times = stop // scheduler.step_size - start // scheduler.step_size
    return float(scheduler.gamma**times)


def _multi_step(scheduler: Any, start: int, stop: int) -> float | None:
    milestones = scheduler.milestones
    if not all(isinstance(milestone, int) for milestone in milestones):
        return None
    times = sum(count for one, count in milestones.items() if start < one <= stop)
    return float(scheduler.gamma**times)


def _exponential(scheduler: Any, start: int, stop: int) -> float:
    return float(scheduler.gamma ** (stop - start))


def _constant(scheduler: Any, start: int, stop: int) -> float | None:
    if not start < scheduler.total_iters <= stop:
        return 1.0
    return 1.0 / scheduler.factor if scheduler.factor else None


def _linear(scheduler: Any, start: int, stop: int) -> float:
    total, first = scheduler.total_iters, scheduler.start_factor
    if start >= total:
        return 1.0
    rise = scheduler.end_factor - first
    return float((total * first + min(stop, total) * rise) / (total * first + start * rise))


def _polynomial(scheduler: Any, start: int, stop: int) -> float:
    total = scheduler.total_iters
    if start >= total:
        return 1.0
    return float(((1.0 - min(stop, total) / total) / (1.0 - start / total)) ** scheduler.power)


def _cosine(scheduler: Any, start: int, stop: int) -> float | None:
    """Return the factor within one half period of the cosine, else None.

    In a rising half, the factor would amplify the rounding error of a rate near the minimum. So it
    must not begin there, and `eta_min` must be 0.
    """
    half = scheduler.T_max
    is_uphill = start // half % 2 == 1
    if stop > (start // half + 1) * half or (
        is_uphill and (start % half == 0 or scheduler.eta_min)
    ):
        return None
    return (1 + math.cos(math.pi * stop / half)) / (1 + math.cos(math.pi * start / half))


def _restarts(scheduler: Any, start: int, stop: int) -> float:
    """Return 1 and advance the scheduler's own counters `T_cur` and `T_i`."""
    scheduler.T_cur += stop - start
    if scheduler.T_mult == 1:
        scheduler.T_cur %= scheduler.T_i
    while scheduler.T_cur >= scheduler.T_i:
        scheduler.T_cur -= scheduler.T_i
        scheduler.T_i *= scheduler.T_mult
    return 1.0


# Type of a scheduler -> the factor of `stop - start` steps; None if it must be stepped one by one.
# Subclasses are not supported.
_FACTORS: dict[type, Factor] = {
    torch_schedules.StepLR: _step,
    torch_schedules.MultiStepLR: _multi_step,
    torch_schedules.ConstantLR: _constant,
    torch_schedules.LinearLR: _linear,
    torch_schedules.ExponentialLR: _exponential,
    torch_schedules.PolynomialLR: _polynomial,
    torch_schedules.CosineAnnealingLR: _cosine,
    torch_schedules.CosineAnnealingWarmRestarts: _restarts,
    torch_schedules.OneCycleLR: _by_number,
    torch_schedules.CyclicLR: _by_number,
}
