"""Trainings that are resumed, beside plain torch: `python layouts.py SIZE...`.

Writes as JSON, by the world's size and the case, what the weights were after each step.
"""

import contextlib
import hashlib
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.config.plugins import ProjectConfiguration
from runtime.local_sgd import LocalSGD
from runtime.parallel.arrivals import FACT
from runtime.utils import DistributedDataParallelKwargs, set_seed
from tests.distributed.forks import world
from tests.states import fresh

RESUMED = (1, 2)
SMALL = {"bucket_cap_mb": 0.005}  # at least three buckets


class Net(nn.Module):
    """Layers of different sizes, whose gradients arrive in an order that the step decides."""

    def __init__(self, *, turns: bool = False, unused: bool = False, half: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 50), nn.Linear(33, 1)
        self.unused = nn.Linear(3, 11) if unused else None
        self.left, self.right = nn.Linear(50, 33), nn.Linear(50, 33)
        self.turns, self.step = turns, 0
        if half:
            self.right.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both branches one after the other."""
        x = self.first(x).tanh()
        branches = [self.left, self.right]
        if self.turns and self.step:
            branches.reverse()
        one, other = (branch(x.to(branch.weight.dtype)).float() for branch in branches)
        result: torch.Tensor = self.last((one.tanh() * other).sin())
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training.

    Attributes:
        net: the arguments of each model.
        ddp: the arguments of DistributedDataParallel.
        accelerator: the arguments of the Accelerator.
        models: the number of models.
        frozen: whether the first layer is frozen.
        hook: whether gradients are compressed by a hook.
        depends: whether bits depend on the layout.
        resumed: the steps at which the training is resumed.
    """

    net: dict[str, Any] = field(default_factory=dict)
    ddp: dict[str, Any] = field(default_factory=dict)
    accelerator: dict[str, Any] = field(default_factory=dict)
    models: int = 1
    frozen: bool = False
    hook: bool = False
    depends: bool = True
    resumed: tuple[int, ...] = RESUMED

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.resumed[-1] + 2


CASES = {
    "three buckets": Case(ddp=SMALL, resumed=(0, 1, 2, 5)),
    "one bucket": Case(),
    "gradients are views": Case(ddp=SMALL | {"gradient_as_bucket_view": True}),
    "a static graph": Case(ddp=SMALL | {"static_graph": True}, resumed=(1, 2, 3)),
    "a static graph with unused parameters": Case(
        net={"unused": True}, ddp=SMALL | {"static_graph": True}
    ),
    "unused parameters": Case(
        net={"unused": True}, ddp=SMALL | {"find_unused_parameters": True}, depends=False
    ),
    "an order that changes": Case(net={"turns": True}, ddp=SMALL),
    "accumulation": Case(ddp=SMALL, accelerator={"gradient_accumulation_steps": 2}),
    "two models": Case(ddp=SMALL, models=2),
    "frozen parameters": Case(ddp=SMALL, frozen=True),
    "two dtypes": Case(net={"half": True}, ddp=SMALL),
    "mixed precision": Case(ddp=SMALL, accelerator={"mixed_precision": "bf16"}),
    "a communication hook": Case(ddp=SMALL, hook=True),
    "compiled": Case(accelerator={"dynamo_backend": "eager"}),
}


def made(case: Case) -> list[Net]:
    """The models, always with the same weights."""
    torch.manual_seed(1)
    nets = [Net(**case.net) for _ in range(case.models)]
    for net in nets:
        net.first.requires_grad_(not case.frozen)
    return nets


def batches(rank: int, step: int, case: Case) -> list[torch.Tensor]:
    """The batches of a step, which only depend on the rank and the step."""
    generator = torch.Generator().manual_seed(1000 * rank + step)
    number = case.accelerator.get("gradient_accumulation_steps", 1)
    return [torch.randn(16, 8, generator=generator) for _ in range(number)]


def digest(nets: list[Net]) -> str:
    """The bits of all weights, and of all gradients, whose last bits may vanish in a step."""
    parameters = [one for net in nets for one in net.parameters()]
    tensors = [*parameters, *(one.grad for one in parameters if one.grad is not None)]
    bits = (one.detach().view(torch.uint8).numpy().tobytes() for one in tensors)
    return hashlib.sha256(b"".join(bits)).hexdigest()[:12]


def plain(case: Case, rank: int) -> list[str]:
    """The training with torch alone."""
    nets, found = made(case), []
    models = [DistributedDataParallel(net, **case.ddp) for net in nets]
    optimizer = torch.optim.SGD([one for net in nets for one in net.parameters()], lr=0.1)
    for model in models if case.hook else ():
        model.register_comm_hook(None, bf16_compress_hook)
    for step in range(case.steps):
        given = batches(rank, step, case)
        for index, batch in enumerate(given):
            with contextlib.ExitStack() as stack:
                if index < len(given) - 1:
                    for model in models:
                        stack.enter_context(model.no_sync())
                loss: Any = _loss(models, nets, batch, step, case)
                (loss / len(given)).backward()
        found.append(digest(nets))
        optimizer.step()
        optimizer.zero_grad()
    return found


def _loss(models: Any, nets: list[Net], batch: torch.Tensor, step: int, case: Case) -> torch.Tensor:
    losses = []
    for model, net in zip(models, nets, strict=True):
        net.step = step
        with torch.autocast("cpu", torch.bfloat16, "mixed_precision" in case.accelerator):
            output = model(batch)
        losses.append(output.float().square().mean())
    return torch.stack(losses).sum()


class Training:
    """The training with an Accelerator."""

    def __init__(self, case: Case) -> None:
        fresh("runtime", world=False)
        set_seed(2)
        self.case, self.nets = case, made(case)
        self.models: list[Any]
        self.accelerator = Accelerator(
            cpu=True,
            project_config=ProjectConfiguration(durable=False),
            kwargs_handlers=[DistributedDataParallelKwargs(**case.ddp)],
            **case.accelerator,
        )
        parameters = [one for net in self.nets for one in net.parameters()]
        optimizer: Any = torch.optim.SGD(parameters, lr=0.1)
        objects: list[Any] = [*self.nets, optimizer]
        *self.models, self.optimizer = self.accelerator.prepare(*objects)
        for model in self.models if case.hook else ():
            model.register_comm_hook(None, bf16_compress_hook)

    def run(self, first: int, last: int) -> Iterator[str]:
        """Train from one step to another."""
        for step in range(first, last):
            found = ""
            for batch in batches(self.accelerator.process_index, step, self.case):
                with self.accelerator.accumulate(*self.models):
                    loss = _loss(self.models, self.nets, batch, step, self.case)
                    self.accelerator.backward(loss)
                    found = digest(self.nets)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
            yield found


def resumed(case: Case, folder: Path, step: int) -> list[str]:
    """The rest of a training, in a new life."""
    training = Training(case)
    for model in training.models:  # an evaluation before
        with torch.no_grad():
            model.eval()(torch.zeros(1, 8))
        model.train()
    training.accelerator.load_state(folder)
    return list(training.run(step, min(step + 3, case.steps)))


def forget(folder: Path) -> None:
    """Make it a checkpoint of a version that kept no order."""
    facts = manifest.read(folder) or {}
    facts.pop(FACT, None)
    (folder / "manifest.json").write_bytes(manifest.text(facts))


def whole(case: Case, folder: Path) -> tuple[Training, list[str]]:
    """The undisturbed training, which saves."""
    training, found = Training(case), []
    run = training.run(0, case.steps)
    for step in range(case.steps):
        if step in case.resumed:
            training.accelerator.save_state(folder / str(step))
        found.append(next(run))
    return training, found


def lives(folder: Path, _: int, names: list[str]) -> Any:
    """What each case found."""
    rank = Accelerator(cpu=True).process_index
    found: dict[str, Any] = {}
    for name in names:
        case, own = CASES[name], folder / name
        training, undisturbed = whole(case, own)
        told: dict[str, Any] = {"whole": undisturbed, "plain": plain(case, rank)}
        training.accelerator.load_state(own / str(case.resumed[-1]))
        told["same life"] = list(training.run(case.resumed[-1], case.steps))
        told["resumed"] = {step: resumed(case, own / str(step), step) for step in case.resumed}
        distributed.barrier()
        if not rank:
            forget(own / "2")
        distributed.barrier()
        told["without order"] = resumed(case, own / "2", 2)
        found[name] = told
    return found


RESIZES = (3, 4, 1, 3)


def resized(folder: Path, _: int, first: int) -> list[str]:
    """A part of a training, from the checkpoint before if there is one."""
    training = Training(CASES["three buckets"])
    if first:
        training.accelerator.load_state(folder)
    found = list(training.run(first, first + 3))
    training.accelerator.save_state(folder)
    return found


def apart(folder: Path, _: int) -> list[Any]:
    """Local SGD never averages gradients, so no order is kept."""
    training = Training(CASES["three buckets"])
    with LocalSGD(accelerator=training.accelerator, model=training.models[0], local_sgd_steps=2):
        list(training.run(0, 2))
    training.accelerator.save_state(folder / "apart")
    return [FACT in json.loads((folder / "apart" / "manifest.json").read_text())]


# Which cases run, by the size of the world.
SIZES = {3: list(CASES), 4: ["three buckets", "a static graph"]}


def main() -> None:
    """Run all cases."""
    importlib.import_module("torch._dynamo")  # so that no fork must: DDP imports it
    found: dict[str, Any] = {}
    for size, names in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            found[str(size)] = world(size, lives, Path(name), names)
    with tempfile.TemporaryDirectory() as name:
        found["apart"] = world(3, apart, Path(name))
        found["resized"] = [
            world(size, resized, Path(name, "resized"), 3 * life)
            for life, size in enumerate(RESIZES)
        ]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
