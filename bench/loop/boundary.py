"""What a boundary of the loop costs: the CPU time of a step whose model and data cost little.

    python -m bench.loop.boundary
    python -m runtime.launch --standalone --nproc-per-node 2 -m bench.loop.boundary

Passes with and without the loop take turns in each process, and the fastest of each counts. The
main process prints one JSON line: the microseconds of CPU time that a step takes with the loop and
without, in the main thread and in all threads of the process, and the share of a processor that all
other threads take.
"""

import argparse
import json
import sys
import time
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.world.gradient_state import GradientState

_WARM = 2  # passes that are not counted
_PARAMETERS = 8


class Still(torch.optim.Optimizer):
    """An optimizer that changes nothing."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as short as possible
        """Do nothing."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing."""


def microseconds(
    accelerator: Accelerator, loader: Any, optimizer: Any, loss: torch.Tensor
) -> tuple[float, ...]:
    """Return the CPU time of a step in this thread, and in all threads, over a pass."""
    began = time.thread_time(), time.process_time()
    for _ in loader:
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    ended = time.thread_time(), time.process_time()
    return tuple(1e6 * (now - then) / len(loader) for then, now in zip(began, ended, strict=True))


def _clocks() -> tuple[float, float]:
    """Return the CPU time of the other threads, and the time; in seconds."""
    return time.process_time() - time.thread_time(), time.monotonic()


def main() -> None:
    """Take turns, and print the shortest times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of a pass")
    parser.add_argument("--rounds", type=int, default=15, help="passes of each kind")
    options = parser.parse_args()
    accelerator = Accelerator(cpu=True)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(_PARAMETERS)]
    for one in weights:
        one.grad = torch.zeros(1)
    data = TensorDataset(torch.zeros(options.steps * accelerator.num_processes, 1))
    model = torch.nn.ParameterList(weights)
    _, optimizer, loader = accelerator.prepare(model, Still(weights, {}), DataLoader(data))
    loss = torch.zeros((), requires_grad=True)
    loss.backward = lambda **_: None  # type: ignore[method-assign]  # its cost is not the loop's
    times: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    state, before = GradientState(), _clocks()
    for epoch in accelerator.epochs(2 * (options.rounds + _WARM)):
        loop, is_ours = state.listener, epoch % 2 == 0
        state.listener = loop if is_ours else None
        taken = microseconds(accelerator, loader, optimizer, loss)
        state.listener = loop
        if epoch >= 2 * _WARM:
            times[is_ours].append(taken)
    if accelerator.is_main_process:
        others, wall = (now - then for now, then in zip(_clocks(), before, strict=True))
        (ours, all_ours), (floor, all_floor) = (
            map(min, zip(*times[is_ours], strict=True)) for is_ours in (True, False)
        )
        found = {"ours": ours, "floor": floor, "all_ours": all_ours, "all_floor": all_floor}
        found["others"] = others / wall
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
