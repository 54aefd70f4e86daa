"""Trainings in emulated fp8, of two ranks: `python float8.py LIBRARY` writes what each has found.

Under `runtime` the model is trained by FSDP2, too.
"""

import importlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.distributed.forks import world
from tests.states import fresh

SIZE = 2
STEPS = 4
PLUGINS: dict[str, dict[str, Any]] = {
    "sharded": {},
    "sharded, from rank 0": {"cpu_ram_efficient_loading": True},
}


def net() -> nn.Sequential:
    """A model with two layers that are converted, between two that are not."""
    torch.manual_seed(3)
    sizes = ((16, 32), (32, 32), (32, 32), (32, 1))
    layers = [part for size in sizes for part in (nn.Linear(*size), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


class Training:
    """A model that an Accelerator has prepared with its optimizer."""

    def __init__(self, library: Any, **plugin: Any) -> None:
        utils = importlib.import_module(f"{library.__name__}.utils")
        config = importlib.import_module("torchao.float8").Float8LinearConfig(emulate=True)
        if plugin:
            plugin["fsdp_plugin"] = utils.FullyShardedDataParallelPlugin(**plugin["fsdp_plugin"])
        recipe = utils.AORecipeKwargs(config=config)
        self.accelerator = library.Accelerator(
            mixed_precision="fp8", kwargs_handlers=[recipe], **plugin
        )
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def losses(self, *steps: int) -> list[float]:
        """Train for some steps, and return the mean loss of each over the ranks."""
        return [self._loss(step) for step in steps]

    def _loss(self, step: int) -> float:
        seed = step * SIZE + self.accelerator.process_index
        x = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
        loss = (self.model(x) - x.sum(1, keepdim=True).sin()).square().mean()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()
        mean: float = self.accelerator.reduce(loss.detach(), "mean").item()
        return mean

    def found(self, losses: list[float]) -> dict[str, Any]:
        """What comes of it: a sharded model has weights on the first rank only."""
        model = self.accelerator.unwrap_model(self.model)
        weights = self.accelerator.get_state_dict(self.model)
        return {
            "losses": losses,
            "weights": {name: one.tolist() for name, one in weights.items()},
            "layers": [type(one).__name__ for one in model if isinstance(one, nn.Linear)],
        }


def whole(library: Any, **plugin: Any) -> dict[str, Any]:
    """A training without a checkpoint."""
    training = Training(library, **plugin)
    return training.found(training.losses(*range(STEPS)))


def resumed(library: Any, folder: Path, **plugin: Any) -> dict[str, Any]:
    """The same, by a process that ends in the middle and by another one that goes on."""
    first = Training(library, **plugin)
    losses = first.losses(*range(STEPS // 2))
    first.accelerator.save_state(folder)
    forget(library)
    second = Training(library, **plugin)
    second.accelerator.load_state(folder)
    losses += second.losses(*range(STEPS // 2, STEPS))
    return second.found(losses)


def forget(library: Any) -> None:
    """Forget the Accelerator; the world stays."""
    fresh(library.__name__, world=False)
    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):  # Accelerators set them
        os.environ.pop(name, None)


def rank(name: str, _: int, folder: str) -> dict[str, Any]:
    """Run all trainings in one rank."""
    library, found = importlib.import_module(name), {}
    cases: dict[str, dict[str, Any]] = {"replicated": {}}
    if name == "runtime":
        warnings.simplefilter("error")
        cases |= {case: {"fsdp_plugin": plugin} for case, plugin in PLUGINS.items()}
    for case, plugin in cases.items():
        found[case] = whole(library, **plugin)
        forget(library)
        found[f"{case}, resumed"] = resumed(library, Path(folder, name, case), **plugin)
        forget(library)
    importlib.import_module(f"{name}.state").PartialState().destroy_process_group()
    return found


if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).Accelerator  # noqa: B018  # it imports, so that no rank must
    for inner in ("torchao.float8", "torch._dynamo"):
        importlib.import_module(inner)
    with tempfile.TemporaryDirectory() as folder:
        found = world(SIZE, rank, sys.argv[1], folder)
    sys.stdout.write(json.dumps(found))
