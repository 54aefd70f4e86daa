"""A scheduler's step in a large world, which takes one step of the schedule for each process.

The world is simulated: the state of the library reports the world size. A step needs no
communication.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from bench.case import Case, Goal, Side
from bench.libraries import TORCH, Timed, accelerator, module, timed

ONE = 20_000  # the minimum steps of the schedule per measurement
PERIOD = 10**6


def stepped(library: str, *, world: int, schedule: str) -> Timed:
    """Step a scheduler; measures seconds per call.

    Args:
        library: the library; the floor takes one step of the schedule.
        world: the simulated world size.
        schedule: `lambda` or `cosine`.
    """
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls = max(ONE // world, 20)
    if library == TORCH:
        optimizer.step()  # else torch warns about the order of the steps
        plain = _schedule(schedule, optimizer)
        return Timed(lambda: None, lambda: timed(plain.step, calls))
    made = accelerator(library)
    *_, scheduler = made.prepare(model, optimizer, _schedule(schedule, optimizer))
    optimizer.step()
    state = module(library, "state")

    def answer() -> list[str]:
        found = []
        with _simulated(state, world):
            for _ in range(10):
                scheduler.step()
                found.append(f"{scheduler.get_last_lr()[0]:.10g}")
        return found

    def sample() -> float:
        with _simulated(state, world):
            return timed(scheduler.step, calls)

    return Timed(answer, sample)


@contextlib.contextmanager
def _simulated(state: Any, world: int) -> Iterator[None]:
    """Make the state of a library report a world size inside the block."""
    kinds = state.PartialState(), state.AcceleratorState()
    for one in kinds:
        one.num_processes = world
    yield
    for one in kinds:
        one.num_processes = 1


def _schedule(name: str, optimizer: torch.optim.Optimizer) -> LRScheduler:
    if name == "cosine":
        return CosineAnnealingLR(optimizer, PERIOD)
    return LambdaLR(optimizer, lambda step: 1 / (1 + step / PERIOD))


_SCHEDULED = [{"world": world} for world in (1, 8, 64, 512)]
CASES = [
    Case(
        name=f"scheduler-{schedule}",
        theme="scheduler",
        what=f"A step of a scheduler in a large world, {kind}",
        program=stepped,
        unit="s",
        sizes=_SCHEDULED,
        quick=_SCHEDULED[-1:],
        theirs=Side("accelerate", {"schedule": schedule}),
        ours=Side("runtime", {"schedule": schedule}),
        floor=Side("torch", {"schedule": schedule}),
        floor_is="one step of torch's scheduler",
        goal=goal,
    )
    for schedule, kind, goal in (
        ("lambda", "LambdaLR", None),  # the function of the script must be called for each step
        ("cosine", "CosineAnnealingLR", Goal(kind="of floor", limit=2, at=_SCHEDULED[-1])),
    )
]
