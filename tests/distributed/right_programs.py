"""The programs of `right.ROWS`: they run under both libraries, unchanged, in every rank."""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler

from tests.distributed.programs import (
    Library,
    Numbers,
    configured,
    plain,
    uneven,
)

STEPS = 3  # of the accumulation that a checkpoint cuts


def world(library: Library) -> Any:
    """Processes, this rank, and the sum of 1 over all."""
    accelerator = library.Accelerator()
    total = accelerator.reduce(torch.ones(()), "sum")
    return [accelerator.num_processes, accelerator.process_index, int(total)]


def trained_in_fp8(library: Library) -> Any:
    """Which layers a step changes, with all that the default recipe has, emulated."""
    home = importlib.import_module(f"{library.__name__}.utils")
    usual = home.AORecipeKwargs().config
    recipe = home.AORecipeKwargs(config=dataclasses.replace(usual, emulate=True))
    accelerator = library.Accelerator(mixed_precision="fp8", kwargs_handlers=[recipe])
    own: Any = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    optimizer = torch.optim.SGD(own.parameters(), lr=1.0)
    model, optimizer = accelerator.prepare(own, optimizer)
    before = [(layer.weight + 0).tolist() for layer in own]  # a sum is a plain tensor
    accelerator.backward(model(torch.ones(1, 16)).sum())
    optimizer.step()
    return [(layer.weight + 0).tolist() != old for layer, old in zip(own, before, strict=True)]


def container(library: Library) -> Any:
    """What a model becomes."""
    return type(library.Accelerator().prepare(nn.Linear(1, 1))).__name__


def used(
    library: Library,
    data: Any,
    *,
    seed_by_rank: bool = False,
    shuffle: bool | None = None,
    workers: int = 0,
    **options: Any,
) -> Any:
    """Different samples that an epoch uses in all ranks, and samples in all."""
    accelerator = configured(library, **options)
    torch.manual_seed(3 + seed_by_rank * accelerator.process_index)
    loader = DataLoader(data, batch_size=2, shuffle=shuffle, num_workers=workers)
    seen = [n for batch in accelerator.prepare(loader) for n in accelerator.gather(batch).tolist()]
    return [len(set(seen)), len(seen)]


def counted(
    library: Library, data: Any, *, subset: int = 0, batch: int = 4, skip: int = 0, **options: Any
) -> Any:
    """Samples that metrics count."""
    accelerator = configured(library, **options)
    sampler = SubsetRandomSampler(range(subset)) if subset else None
    loader = accelerator.prepare(DataLoader(data, batch_size=batch, sampler=sampler))
    if skip:
        loader = accelerator.skip_first_batches(loader, skip)
    return sum(len(accelerator.gather_for_metrics(batch)) for batch in loader)


def with_names(library: Library) -> Any:
    """What metrics get of a dict that has a list of names beside a tensor."""
    accelerator = configured(library)
    loader = accelerator.prepare(DataLoader(Numbers(4), batch_size=2))
    (batch,) = loader
    found = accelerator.gather_for_metrics({"x": batch, "names": [f"s{n}" for n in batch.tolist()]})
    return plain(found)


def with_objects(library: Library) -> Any:
    """What metrics get of labels and names, lists of any objects, in the last step of two."""
    accelerator, found = configured(library), None
    for batch in accelerator.prepare(DataLoader(Numbers(7), batch_size=2)):
        labels = [{"label": n} for n in batch.tolist()]
        found = accelerator.gather_for_metrics((labels, [f"s{n}" for n in batch.tolist()]))
    return plain(found)


class Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def told_of_copies(library: Library) -> Any:
    """Samples that an epoch of one gives, and how often it is said that they are copies."""
    accelerator, heard = configured(library), Heard()
    logging.getLogger().addHandler(heard)
    with warnings.catch_warnings(record=True) as warned:
        loader = accelerator.prepare(DataLoader(Numbers(1), batch_size=2))
        given = [n for batch in loader for n in batch.tolist()]
    said = heard.said + [str(one.message) for one in warned]
    return [given, sum("copies" in one for one in said)]


def lengths(library: Library) -> Any:
    """How many batches a loader says it has, and has."""
    accelerator = configured(library, split_batches=True, even_batches=False)
    loader = accelerator.prepare(DataLoader(Numbers(7), batch_size=2))
    return [len(loader), len(list(loader))]


def kept(library: Library) -> Any:
    """What a loader that skips has of the other one's settings: drop_last, non_blocking."""
    home = importlib.import_module(f"{library.__name__}.utils")
    config = home.DataLoaderConfiguration(non_blocking=True)
    accelerator = library.Accelerator(dataloader_config=config)
    loader = accelerator.prepare(DataLoader(Numbers(9), batch_size=2, drop_last=True))
    skipped = accelerator.skip_first_batches(loader, 1)
    return [skipped._drop_last, skipped._non_blocking]


def epoch_after_skipping(library: Library) -> Any:
    """Which epoch follows on epoch 1, resumed by skip_first_batches."""
    accelerator = configured(library, use_seedable_sampler=True)
    torch.manual_seed(1)
    loaders = [DataLoader(Numbers(32), batch_size=2, shuffle=True) for _ in range(2)]
    whole, resumed = accelerator.prepare(*loaders)
    orders = [torch.cat(list(whole)).tolist() for _ in range(3)]
    resumed.set_epoch(1)
    list(accelerator.skip_first_batches(resumed, 3))
    return orders.index(torch.cat(list(resumed)).tolist())


class Drawn(IterableDataset[int]):
    """0 to 7, in an order of its own generator."""

    def __init__(self) -> None:
        self.generator = torch.Generator()

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(8, generator=self.generator).tolist())


def drawn(library: Library) -> Any:
    """Elements of a shard of an iterable dataset that has a generator."""
    home = importlib.import_module(f"{library.__name__}.data_loader")
    return len(list(home.IterableDatasetShard(Drawn(), 2, False, 2, 0)))


def last_window(library: Library) -> Any:
    """A weight behind each step of size 1 along a slope of 1, over 4 and 2 batches."""
    accelerator = configured(library, gradient_accumulation_steps=4)
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    loader = DataLoader(Numbers(6), batch_size=1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    found = []
    for _ in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.ones(1, 1)).sum())
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:
                found += [parameter.item() for parameter in model.parameters()]
    return found


def joined(library: Library) -> Any:
    """Steps of a rank that has 2 or 3 batches, joined with one that has others."""
    return uneven(library)["steps"]


class Deadly:
    """Something to be saved along; it kills its process when it is saved for the second time."""

    saved = 0

    def state_dict(self) -> dict[str, int]:
        self.saved += 1
        if self.saved > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"saved": self.saved}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.saved = state["saved"]


def numbered(library: Library, limit: int | None) -> tuple[Any, Deadly]:
    """An Accelerator that names its checkpoints, and what is saved in them."""
    home = importlib.import_module(f"{library.__name__}.utils")
    project = home.ProjectConfiguration(
        "project", automatic_checkpoint_naming=True, total_limit=limit
    )
    accelerator, deadly = library.Accelerator(project_config=project), Deadly()
    accelerator.prepare(nn.Linear(2, 2))
    accelerator.register_for_checkpointing(deadly)
    return accelerator, deadly


def save(library: Library, *, times: int, limit: int | None = None) -> None:
    """Save; the second time is deadly."""
    accelerator, _ = numbered(library, limit)
    for _ in range(times):
        accelerator.save_state()


def load(library: Library, *, limit: int | None = None) -> Any:
    """Load the newest checkpoint: which one was it?"""
    accelerator, deadly = numbered(library, limit)
    accelerator.load_state()
    return deadly.saved


def whole(library: Library, *, limit: int) -> Any:
    """Names of the checkpoints that load."""
    accelerator, _ = numbered(library, limit)
    found = []
    for folder in sorted(Path("project/checkpoints").iterdir()):
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            accelerator.load_state(str(folder))
            found.append(folder.name)
    return found


def load_and_save(library: Library) -> Any:
    """Load the newest checkpoint, save another one: which are there?"""
    accelerator, _ = numbered(library, None)
    accelerator.load_state()
    accelerator._custom_objects.clear()
    accelerator.save_state()
    return sorted(path.name for path in Path("project/checkpoints").iterdir())


def training(library: Library, *, batch: int, workers: int) -> tuple[Any, Any]:
    """An Accelerator, and a loader that gives 24 samples in another order each epoch."""
    torch.manual_seed(1)
    accelerator = configured(library, use_seedable_sampler=True, gradient_accumulation_steps=4)
    loader = DataLoader(Numbers(24), batch_size=batch, shuffle=True, num_workers=workers)
    return accelerator, accelerator.prepare(loader)


def interrupted(library: Library, *, epoch: int = 0, workers: int = 0) -> None:
    """Save in the middle of an epoch, and write down what would have come next."""
    accelerator, loader = training(library, batch=2, workers=workers)
    for _ in range(epoch):
        list(loader)
    order: list[int] = []
    for step, samples in enumerate(loader, 1):
        with accelerator.accumulate():
            order += accelerator.gather(samples).tolist()
        if step == STEPS:
            accelerator.save_state("checkpoint")
            order.clear()
    Path("order.json").write_text(json.dumps(order))


def resumed(library: Library, *, batch: int = 2, workers: int = 0) -> Any:
    """Load, go on: batches of the accumulation under way, and whether what would have come came."""
    accelerator, loader = training(library, batch=batch, workers=workers)
    accelerator.load_state("checkpoint")
    order = [n for samples in loader for n in accelerator.gather(samples).tolist()]
    return [accelerator.step, order == json.loads(Path("order.json").read_text())]
