"""Checkpoints of a model and its AdamW: the pause of the training, and the cost of loading."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.case import Case, Goal, Side
from bench.libraries import TORCH, Timed, accelerator, module, peak, timed

LAYERS = 16


def _trained(megabytes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model of `megabytes` MB, and an AdamW whose state is twice as large."""
    width = int((megabytes * 10**6 / 4 / LAYERS) ** 0.5)
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(LAYERS)])
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    yield from (parameter.data for parameter in model.parameters())
    for state in optimizer.state.values():
        yield from (value for value in state.values() if torch.is_tensor(value))


class _Project:
    """A model, an optimizer, and a temporary directory for their checkpoint."""

    def __init__(self, library: str, megabytes: int, *, behind: bool) -> None:
        model, optimizer = _trained(megabytes)
        self.folder = tempfile.TemporaryDirectory()
        self.made = accelerator(library, project_config=_configured(library, behind=behind))
        self.prepared = self.made.prepare(model, optimizer)
        self._trained = model, optimizer

    @property
    def target(self) -> Path:
        """The directory of the checkpoint."""
        return Path(self.folder.name, "checkpoint")

    def save(self) -> None:
        """Write the checkpoint."""
        self.made.save_state(str(self.target))

    def wait(self) -> None:
        """Wait until the checkpoint is written, if it is written in the background."""
        getattr(self.made, "wait_for_checkpoint", lambda: None)()

    def load(self) -> None:
        """Load the checkpoint."""
        self.made.load_state(str(self.target))

    def sums(self) -> list[float]:
        """Return a number for each tensor of the current state."""
        return [float(tensor.double().sum()) for tensor in _tensors(*self._trained)]

    def restored(self) -> list[float]:
        """Overwrite all tensors, load the checkpoint, and return a number for each tensor.

        Raises:
            AssertionError: the numbers differ from those before.
        """
        before = self.sums()
        for tensor in _tensors(*self._trained):
            tensor.add_(1)
        spoiled = self.sums()
        self.load()
        after = self.sums()
        if after != before or after == spoiled:
            sentence = f"a checkpoint must restore {before[:3]}..., got {after[:3]}..."
            raise AssertionError(sentence)
        return after


def _configured(library: str, *, behind: bool) -> Any:
    """Return the project configuration; `behind` writes in the background, if supported."""
    kind = module(library, "utils").ProjectConfiguration
    can = any(field.name == "write_behind" for field in dataclasses.fields(kind))
    return kind(**({"write_behind": True} if can and behind else {}))


def saved(library: str, *, megabytes: int, of: str) -> Timed:
    """Write a checkpoint; a floor copies the tensors to save.

    Args:
        library: the library.
        megabytes: the size of the model.
        of: the measurement: `pause` of the training, or until the checkpoint is `durable` on disk.
    """
    if library == TORCH:
        tensors = list(_tensors(*_trained(megabytes)))
        copies = [torch.empty_like(tensor) for tensor in tensors]
        return Timed(lambda: None, lambda: timed(lambda: _copy(tensors, copies)))
    project = _Project(library, megabytes, behind=True)

    def answer() -> list[float]:
        project.save()
        return project.restored()

    def sample() -> float:
        shutil.rmtree(project.target, ignore_errors=True)
        os.sync()  # earlier writes must not be measured
        if of == "durable":
            return timed(lambda: _make_durable(library, project))
        seconds = timed(project.save)
        project.wait()
        return seconds

    return Timed(answer, sample)


def _make_durable(library: str, project: _Project) -> None:
    project.save()
    project.wait()
    if library != "runtime":  # a save of the runtime ends when it is durable
        os.sync()


def _copy(tensors: list[torch.Tensor], copies: list[torch.Tensor]) -> None:
    for tensor, copy in zip(tensors, copies, strict=True):
        copy.copy_(tensor)


def loaded(library: str, *, megabytes: int, of: str) -> Timed:
    """Load a checkpoint: the `time`, or the `memory` in addition to the model and optimizer."""
    if library == TORCH:
        tensors = list(_tensors(*_trained(megabytes)))
        copies = [torch.empty_like(tensor) for tensor in tensors]
        if of == "memory":
            weights = tensors[:LAYERS]
            return Timed(lambda: None, lambda: float(sum(tensor.nbytes for tensor in weights)))
        return Timed(lambda: None, lambda: timed(lambda: _copy(copies, tensors)))
    project = _Project(library, megabytes, behind=False)
    project.save()
    os.sync()
    return Timed(
        project.restored, lambda: timed(project.load) if of == "time" else peak(project.load)
    )


_MEGABYTES = [{"megabytes": size} for size in (25, 100, 400)]
CASES = [
    Case(
        name="checkpoint-pause",
        theme="checkpoint",
        what="Save a checkpoint of a model and its AdamW: pause of the training",
        program=saved,
        unit="s",
        sizes=_MEGABYTES,
        quick=_MEGABYTES[:1],
        theirs=Side("accelerate", {"of": "pause"}),
        ours=Side("runtime", {"of": "pause"}),
        floor=Side("torch", {"of": "pause"}),
        floor_is="a copy of the same tensors in memory",
        goal=Goal(kind="of floor", limit=1.5, at=_MEGABYTES[-1]),
    ),
    Case(
        name="checkpoint-durable",
        theme="checkpoint",
        what="The same, until it is on disk (Accelerate: with a sync)",
        program=saved,
        unit="s",
        sizes=_MEGABYTES,
        quick=_MEGABYTES[:1],
        theirs=Side("accelerate", {"of": "durable"}),
        ours=Side("runtime", {"of": "durable"}),
        floor=None,
    ),
    *(
        Case(
            name=f"checkpoint-load-{of}",
            theme="checkpoint",
            what=f"Load a checkpoint of a model and its AdamW: {of}",
            program=loaded,
            unit=unit,
            sizes=_MEGABYTES,
            quick=_MEGABYTES[:1],
            theirs=Side("accelerate", {"of": of}),
            ours=Side("runtime", {"of": of}),
            floor=Side("torch", {"of": of}),
            floor_is=floor_is,
            goal=Goal(kind=kind, limit=limit, at=_MEGABYTES[-1]),
            fresh=of == "memory",
        )
        for of, unit, kind, limit, floor_is in (
            ("time", "s", "faster", 4, "a copy of the same tensors in memory"),
            ("memory", "B", "of floor", 1.05, "the model's size"),
        )
    ),
]
