"""A world of which one process does not come to its fourth collective: `lost.py HOW OPERATION`."""

import os
import sys
import threading

import torch
from torch import nn

from runtime import Accelerator
from runtime.utils import gather_object
from runtime.world import roll_call

LOST = 1


def meet(accelerator: Accelerator, model: nn.Module, operation: str) -> None:
    if operation == "backward":
        accelerator.backward(model(torch.ones(1, 3)).sum())
    else:
        gather_object([1])


def stand_still() -> None:
    """Until rank 0 has left, and the store with it."""
    for thread in threading.enumerate():
        if isinstance(thread, roll_call.Answering):
            thread.join()


def main(how: str, operation: str) -> None:
    roll_call.SLOW_AFTER = 1.0
    if how == "stands still":  # else nobody waits for the answer of a process that has ended
        roll_call.PATIENCE = 120.0
    accelerator = Accelerator()
    model = accelerator.prepare(nn.Linear(3, 1))
    for _ in range(2):
        meet(accelerator, model, operation)
    if accelerator.process_index == LOST:
        if how == "stands still":
            stand_still()
        os._exit(0)
    try:
        meet(accelerator, model, operation)
    except RuntimeError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.flush()
    os._exit(0)  # as a process that fails: without a word to the others


if __name__ == "__main__":
    main(*sys.argv[1:])
