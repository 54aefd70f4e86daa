"""Loops over epochs in worlds of two and three processes: `python loops.py`.

Writes as JSON what each rank of each life has noted. A life ends when all ranks have made as many
notes as it may; the checkpoint that is being written is completed.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from runtime.config.plugins import DataLoaderConfiguration
from runtime.local_sgd import LocalSGD
from runtime.utils import FullyShardedDataParallelPlugin
from tests.distributed.forks import world
from tests.runtime.loops import (
    DISPATCHED,
    Augmented,
    Known,
    Life,
    Rows,
    evaluate,
    held_out,
    lived,
    mse,
    one_pass,
    plain,
    shuffled,
    weights,
)
from tests.states import fresh

NOTES = 5  # of a life
LIVES = 12
Notes = list[Any]


def script_of(name: str) -> Callable[[Life], None]:
    """A script by its name."""
    return {
        "shard": lambda life: plain(life, shuffled()),
        "samples with random numbers": lambda life: plain(life, shuffled(Augmented())),
        "dispatcher": lambda life: plain(life, shuffled(), **DISPATCHED),
        "dispatched stream": lambda life: plain(
            life, DataLoader(Known(), batch_size=4), **DISPATCHED
        ),
        "stream": lambda life: plain(life, DataLoader(Known(), batch_size=4)),
        "local SGD": local_sgd,
        "uneven inputs": uneven,
        "sharded model": sharded,
    }[name]


def local_sgd(life: Life) -> None:
    """Weights are averaged every second step."""
    accelerator = life.accelerator()
    torch.manual_seed(accelerator.process_index)
    model = nn.Linear(1, 1)
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), lr=0.1), shuffled(Rows(40))
    )
    for _ in accelerator.epochs(2):
        with LocalSGD(accelerator, model, 2) as local:
            for batch in loader:
                one_pass(life, accelerator, model, optimizer, [batch], after=local.step)
    weights(life, model)


def uneven(life: Life) -> None:
    """The ranks have different numbers of batches."""
    accelerator = life.accelerator(dataloader_config=DataLoaderConfiguration(even_batches=False))
    model = nn.Linear(1, 1)
    model, optimizer, loader, other = accelerator.prepare(
        model, torch.optim.SGD(model.parameters(), lr=0.1), shuffled(Rows(20)), held_out(16)
    )
    loss = torch.zeros(())
    for _ in accelerator.epochs(4):
        with accelerator.join_uneven_inputs([model]):
            for batch in loader:
                optimizer.zero_grad()
                loss = mse(model, batch)
                accelerator.backward(loss)
                optimizer.step()
        life.note("step", accelerator.completed_steps, loss.item())
        evaluate(life, model, other)
    weights(life, model)


def sharded(life: Life) -> None:
    """FSDP2."""
    accelerator = life.accelerator(fsdp_plugin=FullyShardedDataParallelPlugin())
    model: Any = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    model, optimizer, loader = accelerator.prepare(
        model, torch.optim.AdamW(model.parameters(), lr=0.05), shuffled()
    )
    for _ in accelerator.epochs(2):
        one_pass(life, accelerator, model, optimizer, loader)
    whole = [one.full_tensor().flatten().tolist() for one in model.parameters()]
    life.note("weights", whole)


def life(folder: Path | None, _: int, name: str, notes: int | None) -> Notes:
    """One life of a script, in each rank."""
    os.environ["ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"] = "1"
    if folder is not None:
        os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"] = str(folder)
    return lived(script_of(name), notes)


def lives(name: str, size: int) -> list[list[Notes]]:
    """All lives of a script until its end, by rank."""
    found: list[list[Notes]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(LIVES):
            found.append(world(size, life, Path(folder), name, NOTES + number % 2))
            if found[-1][0][-1][0] == "weights":
                break
    return found


def read(folder: Path, _: int, notes: int | None) -> Notes:
    """Two epochs; notes the samples of all ranks for each step. The global batch is 12."""
    os.environ["ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS"] = "1"
    os.environ["ACCELERATEDJOB_CHECKPOINT_DIR"] = str(folder)

    def script(one: Life) -> None:
        accelerator = one.accelerator(
            dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
        )
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data = DataLoader(Rows(60), batch_size=12, shuffle=True)
        model, optimizer, loader = accelerator.prepare(model, optimizer, data)
        for epoch in accelerator.epochs(3):
            for batch in loader:
                accelerator.backward(mse(model, batch))
                optimizer.step()
                optimizer.zero_grad()
                rows = accelerator.gather_for_metrics(batch[0]).flatten() * 60
                one.note("step", accelerator.completed_steps, epoch, rows.round().int().tolist())
        one.note("weights")

    return lived(script, notes)


RESIZES = [(2, 1), (1, 2), (2, 3), (3, 1)]


def resized(before: int, after: int) -> list[Notes]:
    """A life in a world of one size, and one in another; what rank 0 has noted."""
    with tempfile.TemporaryDirectory() as folder:
        one = world(before, read, Path(folder), 8)[0]
        return [one, world(after, read, Path(folder), None)[0]]


NAMES = (
    *("shard", "samples with random numbers", "dispatcher", "dispatched stream", "stream"),
    *("local SGD", "uneven inputs", "sharded model"),
)


def main() -> None:
    """All scripts; before, what torch imports when it is used."""
    lived(plain)
    fresh()
    found: dict[str, Any] = {}
    for name in NAMES:
        found[name] = {"whole": world(2, life, None, name, None), "lives": lives(name, 2)}
    found["resized"] = [resized(*sizes) for sizes in RESIZES]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
