"""A training that saves after each epoch, whole or with a restart after each: `python restarts.py`.

Writes what each epoch of each life gave, by the world's size, as JSON.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler

from runtime import Accelerator
from runtime.configuration import DataLoaderConfiguration
from runtime.state import AcceleratorState, GradientState
from runtime.utils import set_seed
from tests.distributed.resizing import world

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
CASES = [f"{kind}, {workers} workers" for kind in KINDS for workers in (0, 2)]


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
        AcceleratorState._reset_state()
        GradientState._reset_state()
    Accelerator().end_training()
    return found


def main() -> None:
    """Both trainings in worlds of all sizes."""
    found = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as parts:
            lives = [world(size, life, Path(parts), epoch, epoch) for epoch in range(EPOCHS)]
            found[str(size)] = [world(size, life, Path(whole), 0, EPOCHS - 1), *lives]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
