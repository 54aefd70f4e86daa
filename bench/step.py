"""A training step of a tiny model, in which everything but the library costs little."""

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from bench.case import Case, Goal
from bench.libraries import TORCH, Timed, accelerator, digest, joined, timed

BATCH = 8
STEPS = 100


class Points(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A small regression dataset; not a TensorDataset, which is measured in `fetch`."""

    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(n, 16, generator=generator)
        self.y = torch.randn(n, 1, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]


def training(library: str, *, processes: int | None = None) -> Timed:
    """Train for an epoch; measures seconds per step.

    Args:
        library: the library; the floor is a loop with torch only.
        processes: the world size; None if the environment has no ranks.
    """
    data = Points(BATCH * STEPS * (processes or 1))
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    loop = (
        _Raw(model, data, processes or 1) if library == TORCH else _Prepared(library, model, data)
    )

    def answer() -> Any:
        losses = loop.epoch()
        weights = torch.cat([parameter.flatten() for parameter in model.parameters()])
        return [digest(torch.stack(losses)), digest(weights)]

    return Timed(answer, lambda: timed(loop.epoch) / STEPS)


class _Raw:
    """A training loop with torch only."""

    def __init__(self, model: nn.Module, data: Points, processes: int) -> None:
        rank = joined()[0] if processes > 1 else 0
        own = [
            list(range(first, first + BATCH))
            for first in range(rank * BATCH, len(data), BATCH * processes)
        ]
        self.model = DistributedDataParallel(model) if processes > 1 else model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        self.scheduler = LambdaLR(self.optimizer, _constant)
        self.loader = DataLoader(data, batch_sampler=own)

    def epoch(self) -> list[torch.Tensor]:
        """Train; the losses."""
        losses = []
        for x, y in self.loader:
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.detach())
        return losses


class _Prepared:
    """The same training loop with the objects of a library."""

    def __init__(self, library: str, model: nn.Module, data: Points) -> None:
        self.made = accelerator(library)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scheduler = LambdaLR(optimizer, _constant)
        self.model, self.optimizer, self.loader, self.scheduler = self.made.prepare(
            model, optimizer, DataLoader(data, batch_size=BATCH), scheduler
        )

    def epoch(self) -> list[torch.Tensor]:
        """Train; the losses."""
        losses = []
        for x, y in self.loader:
            with self.made.accumulate(self.model):
                self.optimizer.zero_grad()
                loss = nn.functional.mse_loss(self.model(x), y)
                self.made.backward(loss)
                self.made.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
            losses.append(loss.detach())
        return losses


def _constant(step: int) -> float:
    del step
    return 1.0


_ALONE: dict[str, int] = {}
_WORLDS = [{"processes": 2}, {"processes": 4}]
CASES = [
    Case(
        name="step",
        theme="step",
        what="A step of a tiny model in one process",
        program=training,
        unit="s",
        sizes=[_ALONE],
        quick=[_ALONE],
        floor_is="the same loop with torch only",
        goal=Goal(kind="above floor", limit=25e-6, at=_ALONE),
    ),
    Case(
        name="step-local-rank",
        theme="step",
        what="The same in a pod with one process, where LOCAL_RANK is set",
        program=training,
        unit="s",
        sizes=[{"processes": 1}],
        quick=[{"processes": 1}],
        floor_is="the same loop with torch only",
        goal=Goal(kind="of floor", limit=1.1, at={"processes": 1}),
    ),
    Case(
        name="step-ddp",
        theme="step",
        what="The same in several processes, with DistributedDataParallel",
        program=training,
        unit="s",
        sizes=_WORLDS,
        quick=_WORLDS[:1],
        floor_is="the same loop with torch only",
        goal=Goal(kind="of floor", limit=1.03, at=_WORLDS[0]),
    ),
]
