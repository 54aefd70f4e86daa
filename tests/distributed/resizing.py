"""Worlds of each size save, and worlds of each size load: torch is imported once, ranks are forks.

Writes what each rank has found, as JSON: `python resizing.py FOLDER`.
"""

import errno
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from runtime import Accelerator
from runtime.config.plugins import ProjectConfiguration
from runtime.errors import CheckpointError
from tests.distributed.forks import world
from tests.distributed.world import machines_of_one
from tests.states import fresh

SIZES = (1, 2, 3, 4)
N, BATCH = 41, 3
Found = dict[str, Any]


class Rows(Dataset[Any]):
    """Points, and their index."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return torch.full((2,), index / N), index


class Stream(IterableDataset[Any]):
    """The same, to be gone through."""

    def __iter__(self) -> Any:
        return (Rows()[index] for index in range(N))


class Full:
    """Finds no room on the disk, on rank 0."""

    def state_dict(self) -> Found:
        """What cannot be written."""
        return {"full": self}

    def load_state_dict(self, state: Found) -> None:
        """Nothing is kept."""

    def __deepcopy__(self, _: Any) -> "Full":
        return self

    def __reduce__(self) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Training:
    """Everything that a checkpoint has."""

    def __init__(self, kind: str, **project: Any) -> None:
        torch.manual_seed(1)
        config = ProjectConfiguration(**project)
        self.accelerator = Accelerator(
            cpu=True, gradient_accumulation_steps=2, project_config=config
        )
        model = nn.Linear(2, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        loader: Any = DataLoader(Stream(), batch_size=BATCH)
        if kind == "map":
            loader = DataLoader(Rows(), batch_size=BATCH, shuffle=True)
        prepared = self.accelerator.prepare(model, optimizer, scheduler, loader)
        self.model, self.optimizer, self.scheduler, self.loader = prepared

    def steps(self, count: int = N) -> list[int]:
        """Samples of all processes in that many batches, or up to the epoch's end."""
        seen: list[int] = []
        for index, (x, rows) in enumerate(self.loader, 1):
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(x).square().mean())
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            seen += self.accelerator.gather_for_metrics(rows).tolist()
            if index == count:
                break
        return seen

    def state(self) -> Found:
        """What is the same on all ranks."""
        states = self.optimizer.state_dict()["state"]
        tensors = [*self.model.parameters(), *(x for i in states for x in states[i].values())]
        return {
            "tensors": [one.tolist() for one in tensors],
            "scheduler": self.scheduler.state_dict(),
            "step": self.accelerator.step,
        }


def save(folder: Path, size: int, kind: str) -> Found:
    """Three batches, a checkpoint, and what comes next; written behind in worlds of 3 and 4."""
    training = Training(kind, write_behind=size > 2)
    torch.manual_seed(training.accelerator.process_index)
    consumed = training.steps(3)
    training.accelerator.save_state(folder / kind / str(size))
    found = training.state() | {"consumed": consumed, "drawn": torch.rand(1).item()}
    training.accelerator.end_training()
    return found


def load(folder: Path, size: int, kind: str) -> Found:
    """The checkpoints of all worlds, and how their epochs go on."""
    found: Found = {}
    training = Training(kind)
    for saved in SIZES:
        training.accelerator.load_state(folder / kind / str(saved))
        state = training.state()
        drawn = torch.rand(1).item()
        found[str(saved)] = state | {"drawn": drawn, "rest": training.steps()}
        found[str(saved)]["next"] = training.steps()
    training.accelerator.end_training()
    return found | {"size": size}


def fail(folder: Path, size: int, kind: str) -> Found:
    """A save that fails on rank 0, waited for or behind; and one that does not, afterwards."""
    found = {}
    training = Training(kind, write_behind=size > 2)
    training.accelerator.register_for_checkpointing(Full())
    try:
        training.accelerator.save_state(folder / "full")
        training.accelerator.wait_for_checkpoint()
    except CheckpointError as error:
        found["error"] = str(error)
    training.accelerator._custom_objects.clear()
    training.accelerator.save_state(folder / "full")
    training.accelerator.end_training()
    return found


def nodes(folder: Path, size: int, kind: str) -> Found:
    """Each rank a machine of its own; the newest checkpoint is damaged on the last one."""
    rank = int(os.environ["RANK"])
    own = folder / f"node{rank}"
    names = {"project_dir": str(own), "automatic_checkpoint_naming": True}
    training = Training(kind, save_on_each_node=True, **names)
    saved = [training.accelerator.save_state()]
    expected = training.state()
    training.steps(2)
    saved.append(training.accelerator.save_state())
    if rank == size - 1:
        (saved[1] / "optimizer.bin").write_bytes(b"torn")
    training.accelerator.load_state()
    found = {"is_first": training.state() == expected, "is_second": training.state() != expected}
    training.accelerator.end_training()
    return found | {"files": sorted(one.name for one in saved[0].iterdir())}


def main(folder: str) -> None:
    """All worlds, one behind the other; before, what torch imports when it is used."""
    with tempfile.TemporaryDirectory() as warm:
        save(Path(warm), 1, "map")
    fresh()
    found: Found = {}
    for kind in ("map", "stream"):
        found[f"saved {kind}"] = [world(size, save, Path(folder), kind) for size in SIZES]
        found[f"loaded {kind}"] = [world(size, load, Path(folder), kind) for size in SIZES]
    found["failed"] = [world(size, fail, Path(folder), "map") for size in (2, 3)]
    found["nodes"] = world(2, nodes, Path(folder), "map", env=machines_of_one)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
