"""Trainings that save, whole or with a restart after each: `python restarts.py`.

Writes as JSON what each epoch of each life gave, by the world's size, and what lives in worlds of
other sizes gave.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from runtime import Accelerator
from runtime.checkpoint import manifest
from runtime.config.plugins import DataLoaderConfiguration, ProjectConfiguration
from runtime.utils import set_seed
from tests.distributed.forks import world
from tests.states import fresh

SIZES, EPOCHS, N, BATCH = (1, 2), 4, 12, 2
Found = dict[str, list[Any]]


class Augmented(Dataset[Any]):
    """An index, and a number that is drawn where it is read."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return index, torch.randint(1000, ())


class Stream(IterableDataset[Any]):
    """The same in an order that is drawn from a generator of its own, once an epoch."""

    def __init__(self) -> None:
        self.generator = generator()

    def set_epoch(self, epoch: int) -> None:
        """It hears of epochs, and draws on as it likes."""

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(N, generator=self.generator).tolist()
        return (Augmented()[index] for index in order)


def generator() -> torch.Generator:
    """The script's own."""
    return torch.Generator().manual_seed(5)


def subset() -> Any:
    """An order that torch draws whole, from a generator of its own."""
    return SubsetRandomSampler(range(N), generator=generator())


KINDS: dict[str, tuple[Any, bool]] = {  # what a loader is made of; whether rank 0 reads for all
    "default shuffle": (lambda: {"shuffle": True}, False),
    "own generator": (lambda: {"shuffle": True, "generator": generator()}, False),
    "own sampler": (lambda: {"sampler": subset(), "generator": generator()}, False),
    "stream": (lambda: {"dataset": Stream()}, False),
    "dispatched shuffle": (lambda: {"shuffle": True}, True),
    "dispatched sampler": (lambda: {"sampler": subset()}, True),
    "dispatched stream": (lambda: {"dataset": Stream()}, True),
}
FORKED = ("default shuffle", "stream", "dispatched shuffle", "dispatched stream")  # by workers
CASES = [f"{kind}, 0 workers" for kind in KINDS] + [f"{kind}, 2 workers" for kind in FORKED]


def loader_of(case: str) -> DataLoader[Any]:
    """As the script makes it."""
    kind, workers = case.split(", ")
    options = {"dataset": Augmented()} | KINDS[kind][0]()
    return DataLoader(batch_size=BATCH, num_workers=int(workers[0]), **options)


def life(folder: Path, _: int, first: int, last: int) -> Found:
    """Epochs `first` to `last` of each case, from the checkpoint before; saved after each."""
    found: Found = {}
    for case in CASES:
        set_seed(3)
        dispatch = KINDS[case.split(", ")[0]][1]
        config = DataLoaderConfiguration(dispatch_batches=dispatch)
        accelerator = Accelerator(cpu=True, dataloader_config=config)
        loader = accelerator.prepare(loader_of(case))
        if first:
            accelerator.load_state(folder / case / str(first - 1))
        found[case] = []
        for epoch in range(first, last + 1):
            given = [[index.tolist(), drawn.tolist()] for index, drawn in loader]
            found[case].append([given, random.random(), torch.rand(()).item()])
            accelerator.save_state(folder / case / str(epoch))
        fresh(world=False)
    Accelerator().end_training()
    return found


# Lives of one training, each in a world of another size than the one before, and the accumulations
# that it saves. An epoch has two of them, of three batches and of two.
LIVES, KEPT = ((1, 1), (2, 2), (1, 2), (2, 3)), 2
WINDOWS = sum(windows for _, windows in LIVES)


def accumulated(folder: Path, size: int, windows: int) -> Any:
    """Go on from the newest checkpoint; save after each accumulation, and lose the last batch.

    Returns the samples of each accumulation, the weights and the learning rate behind it.
    """
    set_seed(3)
    project = ProjectConfiguration(
        folder, automatic_checkpoint_naming=True, total_limit=KEPT, write_behind=True
    )
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=3,
        project_config=project,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    model: Any = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    data = TensorDataset(torch.arange(20.0)[:, None])
    loader = DataLoader(data, batch_size=4, shuffle=True, generator=generator())
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    if (folder / "checkpoints").exists():
        accelerator.load_state()
    found: list[Any] = []
    samples: list[float] = []
    while True:
        for (x,) in loader:
            if len(found) == windows:
                accelerator.end_training()
                return {"windows": found, "kept": kept(folder), "size": size}
            with accelerator.accumulate(model):
                accelerator.backward((model(x) - x).square().mean())
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            samples += accelerator.gather_for_metrics(x).flatten().tolist()
            if accelerator.sync_gradients:
                weights = [one.item() for one in model.parameters()]
                found.append([samples, weights, scheduler.get_last_lr()])
                samples = []
                accelerator.save_state()


def kept(folder: Path) -> list[Any]:
    """Names of the checkpoints, and what is wrong with each."""
    return [
        [one.name, manifest.damage(one)] for one in manifest.checkpoints_in(folder / "checkpoints")
    ]


def main() -> None:
    """Both trainings in worlds of all sizes; before, what torch imports when it is used."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as warm:
        accumulated(Path(warm), 1, 1)
    fresh()
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            found[f"whole {size}"] = world(size, accumulated, Path(name, str(size)), WINDOWS)
        found["lives"] = [world(size, accumulated, Path(name, "lives"), n) for size, n in LIVES]
    for size in SIZES:
        with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as parts:
            lives = [world(size, life, Path(parts), epoch, epoch) for epoch in range(EPOCHS)]
            found[str(size)] = [world(size, life, Path(whole), 0, EPOCHS - 1), *lives]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
