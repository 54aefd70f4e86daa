"""A training that is measured from outside; run by `python -m runtime.launch`.

    python -m bench.loop.training --megabytes 400 --milliseconds 20 --steps 1000

It prints one JSON line at its end: the seconds of all steps.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator

_WIDTH = 1024
_LAYER = 3 * 4 * _WIDTH * _WIDTH  # bytes of a layer: weights, and two moments of Adam


def layers_of(megabytes: int) -> int:
    """Return the number of layers whose state has a size."""
    return max(1, megabytes * 10**6 // _LAYER)


class Layers(nn.Module):
    """Layers of which a step trains one: the state is large and a step is short."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ParameterList(torch.randn(_WIDTH, _WIDTH) for _ in range(layers))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Use each layer a little, so that all have gradients."""
        return inputs.mean() + sum((layer[0, 0] for layer in self.layers), torch.zeros(()))


def main() -> None:
    """Train, and print the durations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=25, help="size of the state")
    parser.add_argument("--milliseconds", type=float, default=20, help="least time of a step")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    accelerator = Accelerator(cpu=True)
    model: nn.Module = Layers(layers_of(options.megabytes))
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters())
    batches: DataLoader[tuple[torch.Tensor, ...]] = DataLoader(
        TensorDataset(torch.randn(options.steps * accelerator.num_processes, 8))
    )
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    began = 0.0
    for _ in accelerator.epochs(1):
        for (inputs,) in batches:
            until = time.perf_counter() + options.milliseconds / 1000
            accelerator.backward(model(inputs))
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(max(0.0, until - time.perf_counter()))
            if accelerator.completed_steps == 10:  # noqa: PLR2004  # the first steps are slower
                began = time.perf_counter()
    seconds = time.perf_counter() - began
    if accelerator.is_main_process:
        sys.stdout.write(json.dumps({"seconds": seconds / (options.steps - 10)}) + "\n")


if __name__ == "__main__":
    main()
