"""What scripts hand over in unusual forms, in a world of two: `python inputs.py` writes JSON."""

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from runtime import Accelerator
from runtime.config.plugins import DataLoaderConfiguration
from tests.distributed.forks import world
from tests.samplers import Lengths
from tests.states import fresh

NAMED = 4  # the batch size that a sampler names
LENGTHS = {"larger": [8, 8, 8, 8, 6], "smaller": [2, 2, 2], "named": [4, 4, 3]}
LOADERS = {
    f"{name}, {how}": (name, options)
    for name in LENGTHS
    for how, options in {
        "dealt": {},
        "split": {"split_batches": True},
        "dispatched": {"dispatch_batches": True},
        "dispatched split": {"dispatch_batches": True, "split_batches": True},
    }.items()
}


def made(data: Any, options: dict[str, Any], **loader: Any) -> tuple[Accelerator, Any]:
    """An accelerator with these options, and a prepared loader."""
    fresh(world=False)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))
    return accelerator, accelerator.prepare(DataLoader(data, **loader))


def sized(name: str, options: dict[str, Any]) -> Any:
    """What metrics count of an epoch, and of one that was resumed behind its first batch."""
    length = sum(LENGTHS[name])
    states: list[dict[str, Any]] = []
    counted: list[list[int]] = [[], []]
    for samples in counted:
        sampler = Lengths(LENGTHS[name], NAMED)
        accelerator, loader = made(range(length), options, batch_sampler=sampler)
        if states:
            loader.load_state_dict(states[0])
        for batch in loader:
            states.append(loader.state_dict())
            samples.extend(accelerator.gather_for_metrics(batch).tolist())
    return counted


def named(_: list[Any]) -> Any:
    """Three samples of which each has a name."""
    return defaultdict(list, {"name": ["a", "b", "c"], "x": torch.tensor([0, 1, 2])})


def parts(_: Path, __: int) -> Any:
    """All cases in one rank."""
    found: dict[str, Any] = {name: sized(*case) for name, case in LOADERS.items()}
    options = {"dispatch_batches": True, "split_batches": True}
    accelerator, loader = made(range(4), options, batch_size=4, collate_fn=named)
    found["names"] = [
        [type(batch).__name__, batch["name"], batch["x"].tolist()] for batch in loader
    ]
    with accelerator.split_between_processes(np.arange(5), apply_padding=True) as share:
        found["numpy"] = share.tolist()
    accelerator.end_training()
    return found


def main() -> None:
    """In two processes."""
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(world(2, parts, Path(folder))))


if __name__ == "__main__":
    main()
