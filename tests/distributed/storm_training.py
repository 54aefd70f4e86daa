"""A training that writes down each step, outside of the system that it tests.

It runs with several ranks, as a script or in a fork. The environment has `STORM_LEDGER`, the file
of the records; `STORM_LIFE`, the number of this life; `STORM_WORKERS`, of each data loader.
"""

import faulthandler
import hashlib
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

import torch
from obstore.fsspec import register
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runtime import Accelerator
from runtime.config.plugins import DataLoaderConfiguration
from runtime.loop import cadence
from runtime.utils import set_seed

LEDGER, LIFE, WORKERS = "STORM_LEDGER", "STORM_LIFE", "STORM_WORKERS"
SAMPLES, BATCH, EPOCHS = 144, 12, 8  # the global batch can be divided by 1, 2, 3 and 4
PER_EPOCH = SAMPLES // BATCH
STEPS = EPOCHS * PER_EPOCH
HELD_OUT = 31
STEP_SECONDS = 0.005
_FORMAT = struct.Struct("<BBHII8s12s")
_NOBODY = 255


class Kind(IntEnum):
    """What a record is of."""

    STEP = 0
    EVALUATION = 1
    END = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a rank has done.

    Attributes:
        kind: what it is.
        rank: the rank.
        epoch: the epoch, from 0.
        life: the number of the life.
        step: the number of optimizer steps so far.
        value: eight bytes of the loss, or of a digest of the weights.
        samples: the samples of the rank's batch; only of a step.
    """

    kind: Kind
    rank: int
    epoch: int
    life: int
    step: int
    value: bytes
    samples: tuple[int, ...] = ()

    def write(self) -> None:
        """Append it to the ledger, at once and as a whole."""
        ids = bytes(self.samples).ljust(BATCH, bytes([_NOBODY]))
        facts = (self.kind, self.rank, self.epoch, self.life, self.step, self.value, ids)
        file = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND)
        os.write(file, _FORMAT.pack(*facts))
        os.close(file)

    @classmethod
    def read(cls, ledger: Path) -> list[Self]:
        """Return all records of a ledger, in order."""
        return [
            cls(
                kind=Kind(kind),
                rank=rank,
                epoch=epoch,
                life=life,
                step=step,
                value=value,
                samples=tuple(one for one in ids if one != _NOBODY),
            )
            for kind, rank, epoch, life, step, value, ids in _FORMAT.iter_unpack(
                ledger.read_bytes()
            )
        ]


def main() -> None:
    """Train from the newest checkpoint to the end."""
    faulthandler.enable()  # SIGABRT shows where each thread is
    if "AWS_ENDPOINT" in os.environ:
        register("s3")
    cadence.SHORTEST, cadence.SHARE = 0.02, 1.0  # a training of seconds has many checkpoints
    set_seed(1)
    accelerator = Accelerator(
        cpu=True,
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True),
    )
    x = torch.rand(SAMPLES, 8)
    data = TensorDataset(torch.arange(SAMPLES), x, x.sum(1, keepdim=True))
    model: Any = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.3), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.9)
    model, optimizer, scheduler, loader, held_out = accelerator.prepare(
        model,
        optimizer,
        scheduler,
        DataLoader(data, BATCH, shuffle=True, num_workers=int(os.environ[WORKERS])),
        DataLoader(TensorDataset(x[:HELD_OUT]), BATCH),
    )
    fixed: dict[str, Any] = {"rank": accelerator.process_index, "life": int(os.environ[LIFE])}
    for epoch in accelerator.epochs(EPOCHS):
        model.train()
        for ids, inputs, targets in loader:
            loss = nn.functional.mse_loss(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            time.sleep(STEP_SECONDS)
            Record(
                kind=Kind.STEP,
                epoch=epoch,
                step=accelerator.completed_steps,
                value=struct.pack("<d", loss.item()),
                samples=tuple(ids.tolist()),
                **fixed,
            ).write()
        Record(
            kind=Kind.EVALUATION,
            epoch=epoch,
            step=accelerator.completed_steps,
            value=struct.pack("<d", _evaluated(accelerator, model, held_out)),
            **fixed,
        ).write()
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    digest = hashlib.sha256(weights).digest()[:8]
    step = accelerator.completed_steps
    Record(kind=Kind.END, epoch=EPOCHS, step=step, value=digest, **fixed).write()


def _evaluated(accelerator: Any, model: Any, loader: Any) -> float:
    model.eval()
    with torch.no_grad():
        found = [accelerator.gather_for_metrics(model(inputs)) for (inputs,) in loader]
    whole = torch.cat(found)
    assert len(whole) == HELD_OUT, len(whole)
    return float(whole.double().sum())


if __name__ == "__main__":
    main()
