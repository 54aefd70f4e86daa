"""Small programs that run under `runtime` and under `accelerate`, unchanged, in every rank.

`python programs.py LIBRARY SIZE FILE` starts a world, whose ranks join once and run every case of
CASES, and writes what each rank has found, by the case's id, as JSON. Numbers are written in full:
equal means bit by bit.
"""

import contextlib
import copy
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler

from tests.distributed import operations, windows
from tests.distributed.dispatching import DISPATCHED, RESUMED_IN
from tests.distributed.forks import world
from tests.distributed.world import on_machines_of_two
from tests.states import fresh

Library = Any


class Numbers(Dataset[int]):
    """0 to n-1."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


class Stream(IterableDataset[int]):
    """0 to n-1, one after the other."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


class Points(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A small regression: features that differ in size, and a target that depends on them."""

    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(n, 6, generator=generator)
        self.y = self.x.sin().sum(dim=1, keepdim=True)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]


def configured(library: Library, **options: Any) -> Any:
    """An Accelerator; what belongs to data loaders goes where both libraries take it."""
    names = (
        *("split_batches", "even_batches", "use_seedable_sampler", "dispatch_batches"),
        "use_stateful_dataloader",
    )
    loader = {name: options.pop(name) for name in names if name in options}
    home = importlib.import_module(f"{library.__name__}.utils")
    return library.Accelerator(dataloader_config=home.DataLoaderConfiguration(**loader), **options)


def batches(
    library: Library,
    *,
    n: int,
    batch: int = 4,
    epochs: int = 2,
    shuffle: bool = True,
    drop_last: bool = False,
    seed_by_rank: bool = False,
    **options: Any,
) -> Any:
    """Every batch of this rank, and what metrics would count, epoch by epoch."""
    torch.manual_seed(3 + seed_by_rank * int(os.environ.get("RANK", "0")))
    accelerator = configured(library, **options)
    loader = accelerator.prepare(
        DataLoader(Numbers(n), batch_size=batch, shuffle=shuffle, drop_last=drop_last)
    )
    even = options.get("even_batches", True)
    return [
        epoch(accelerator, loader, gathers=even) | {"length": len(loader)} for _ in range(epochs)
    ]


def epoch(accelerator: Any, loader: Any, *, gathers: bool) -> dict[str, Any]:
    own, counted, ends = [], [], []
    for data in loader:
        own.append(data.tolist())
        ends.append(accelerator.gradient_state.end_of_dataloader)
        if gathers:
            counted += accelerator.gather_for_metrics(data).tolist()
    return {"own": own, "counted": counted, "ends": ends}


def read(
    library: Library,
    *,
    data: Any = Stream,
    n: int = 37,
    batch: int | None = 4,
    workers: int = 0,
    drop_last: bool = False,
    skip: int = 0,
    **options: Any,
) -> Any:
    """What each rank is given, and what metrics count; by whom it is read is the configuration's.

    `skip`: batches that are left out at the beginning.
    """
    torch.manual_seed(5)
    accelerator = configured(library, **options)
    loader = accelerator.prepare(
        DataLoader(data(n), batch_size=batch, num_workers=workers, drop_last=drop_last)
    )
    if skip:
        loader = accelerator.skip_first_batches(loader, skip)
    return [epoch(accelerator, loader, gathers=True) for _ in range(2)]


def ragged(library: Library) -> Any:
    """Batches of any size: the script's own batch sampler."""
    accelerator = configured(library, even_batches=False)
    batches = [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9, 10, 11], [12, 13]]
    loader = accelerator.prepare(DataLoader(Numbers(14), batch_sampler=batches))
    return epoch(accelerator, loader, gathers=False)


def structures(library: Library) -> Any:
    """What metrics count of dicts, of objects, and of both."""
    accelerator = configured(library)
    loader = accelerator.prepare(DataLoader(Numbers(10), batch_size=2))
    found: Any = {"dict": [], "objects": [], "mixed": []}
    for data in loader:
        names = [f"s{i}" for i in data.tolist()]
        found["dict"].append(accelerator.gather_for_metrics({"x": data, "y": (data * 2,)}))
        found["objects"] += accelerator.gather_for_metrics(names)
        found["mixed"].append(accelerator.gather_for_metrics({"x": data, "names": names}))
    return found


def uneven(library: Library) -> Any:
    """Ranks with different numbers of batches, joined: the model is trained with all."""
    torch.manual_seed(2)
    accelerator = configured(library, even_batches=False)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(Points(10), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = 0
    with accelerator.join_uneven_inputs([model]):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
            steps += 1
    return {"steps": steps, "weights": [p.tolist() for p in model.parameters()]}


def local_sgd(library: Library) -> Any:
    """Weights of a training whose processes meet at every second step."""
    torch.manual_seed(2)
    accelerator = configured(library)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    home = importlib.import_module(f"{library.__name__}.local_sgd")
    found = []
    with home.LocalSGD(accelerator, model, local_sgd_steps=2) as local:
        for step in range(5):
            x = torch.full((2, 6), float(accelerator.process_index + step))
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            local.step()
            found.append([p.tolist() for p in model.parameters()])
    return [*found, [p.tolist() for p in model.parameters()]]


def late_sync(library: Library) -> Any:
    """Gradients reduced by one backward although its forward ran without."""
    torch.manual_seed(2)
    accelerator = configured(library)
    model = accelerator.prepare(nn.Linear(6, 1))
    x = torch.full((2, 6), float(accelerator.process_index))
    with accelerator.no_sync(model):
        losses = [model(x).sum(), model(x * 2).sum()]
        accelerator.backward(losses[0])
        alone = [p.grad.tolist() for p in model.parameters()]
    if accelerator.use_distributed:
        with accelerator.trigger_sync_in_backward(model):
            accelerator.backward(losses[1])
    return {"alone": alone, "together": [p.grad.tolist() for p in model.parameters()]}


def trigger(library: Library) -> Any:
    """A flag that one rank raises."""
    accelerator = configured(library)
    found = [accelerator.check_trigger()]
    if accelerator.is_last_process:
        accelerator.set_trigger()
    return [*found, accelerator.check_trigger(), accelerator.check_trigger()]


def subset(library: Library, *, n: int, batch: int) -> Any:
    """A sampler smaller than its dataset: what metrics count."""
    torch.manual_seed(0)
    accelerator = configured(library)
    sampler = SubsetRandomSampler(range(n), generator=torch.Generator().manual_seed(1))
    loader = accelerator.prepare(DataLoader(Numbers(100), batch_size=batch, sampler=sampler))
    return epoch(accelerator, loader, gathers=True)["counted"]


def left_early(library: Library) -> Any:
    """An inner loader is left by `break`: is the outer one's end still seen?"""
    accelerator = configured(library, gradient_accumulation_steps=4)
    outer, inner = accelerator.prepare(
        DataLoader(Numbers(4), batch_size=1), DataLoader(Numbers(8), batch_size=1)
    )
    ends = []
    for _ in outer:
        for _ in inner:
            break
        ends.append(accelerator.gradient_state.end_of_dataloader)
    return ends


def train(
    library: Library,
    *,
    n: int = 72,
    batch: int = 12,
    accumulate: int = 1,
    epochs: int = 2,
    clip: float | None = None,
    shuffle: bool = False,
    precision: str = "no",
    **plugin: Any,
) -> Any:
    """Weights, losses and learning rates of a short training whose batches split evenly."""
    torch.manual_seed(11)
    home = importlib.import_module(f"{library.__name__}.utils")
    accelerator = configured(
        library,
        split_batches=True,
        gradient_accumulation_plugin=home.GradientAccumulationPlugin(accumulate, **plugin),
        mixed_precision=precision,
    )
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * n // batch)
    loader = DataLoader(Points(n), batch_size=batch, shuffle=shuffle)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    losses, rates, norms = [], [], []
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                if clip is not None and accelerator.sync_gradients:
                    norms.append(float(accelerator.clip_grad_norm_(model.parameters(), clip)))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            losses.append(accelerator.reduce(loss.detach(), "mean").item())
            rates.append(scheduler.get_last_lr()[0])
    weights = [p.tolist() for p in accelerator.unwrap_model(model).parameters()]
    return {"weights": weights, "losses": losses, "rates": rates, "norms": norms}


def at_once(library: Library) -> Any:
    """What an accumulation over 4, then 2 of 6 batches comes to: steps of 48 and 24 samples."""
    torch.manual_seed(11)
    accelerator = configured(library)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    points = Points(72)
    for _ in range(2):
        for rows in (slice(0, 48), slice(48, 72)):
            optimizer.zero_grad()
            accelerator.backward(nn.functional.mse_loss(model(points.x[rows]), points.y[rows]))
            optimizer.step()
            scheduler.step()
    return {"weights": [p.tolist() for p in model.parameters()]}


def collectives(library: Library) -> Any:
    """What processes do together with tensors and objects, nested."""
    accelerator = configured(library)
    utils = importlib.import_module(f"{library.__name__}.utils")
    rank = accelerator.process_index
    tensor = torch.arange(3.0) + 10 * rank
    ragged = torch.full((1 + rank, 2), float(rank))
    nested = {"a": tensor, "b": (tensor * 2, [tensor.sum()])}
    found: Any = {
        "gather": accelerator.gather(nested),
        "sum": accelerator.reduce(nested, "sum"),
        "mean": accelerator.reduce(tensor, "mean"),
        "pad": accelerator.pad_across_processes(ragged, dim=0, pad_index=-1),
        "pad_first": accelerator.pad_across_processes(ragged, dim=0, pad_first=True),
        "broadcast": utils.broadcast(tensor.clone()),
        "objects": utils.gather_object([{"rank": rank}]),
        "broadcast_objects": utils.broadcast_object_list([rank, "x"]),
    }
    for name, inputs in {
        "list": list(range(7)),
        "tensor": torch.arange(5),
        "dict": {"x": [1, 2, 3], "y": ["a", "b", "c"]},
    }.items():
        for padded in (False, True):
            with accelerator.split_between_processes(
                copy.deepcopy(inputs),  # accelerate 1.15 changes a dict in place
                apply_padding=padded,
            ) as share:
                found[f"split {name} {padded}"] = share
    return found


def seeds(library: Library, *, rng_types: list[str]) -> Any:
    """Ranks seeded differently: which streams are in step after a new iteration has begun?"""
    accelerator = configured(library, rng_types=rng_types)
    torch.manual_seed(accelerator.process_index)
    loader = accelerator.prepare(DataLoader(Numbers(16), batch_size=2, shuffle=True))
    first = next(iter(loader)).tolist()
    return {"batch": first, "torch": torch.rand(2).tolist()}


def printed(library: Library) -> Any:
    """What the Accelerator and both states print here; a machine has two processes."""
    accelerator = configured(library)
    partial = importlib.import_module(f"{library.__name__}.state").PartialState()
    with contextlib.redirect_stdout(io.StringIO()) as text:
        for prints in (accelerator, accelerator.state, partial):
            prints.print("once", 1, sep="-", end=";")
    return text.getvalue()


def set_seed(library: Library, *, device_specific: bool) -> Any:
    """The first numbers after set_seed."""
    configured(library)
    importlib.import_module(f"{library.__name__}.utils").set_seed(5, device_specific)
    return torch.rand(2).tolist()


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "shuffled": (batches, {"n": 37}),
    "in order": (batches, {"n": 37, "shuffle": False}),
    "divides": (batches, {"n": 48}),
    "fewer than a global batch": (batches, {"n": 3}),
    "drop_last": (batches, {"n": 37, "drop_last": True}),
    "uneven": (batches, {"n": 37, "even_batches": False}),
    "split": (batches, {"n": 37, "batch": 12, "split_batches": True}),
    "split, uneven": (
        batches,
        {"n": 37, "batch": 12, "split_batches": True, "even_batches": False},
    ),
    "seedable": (batches, {"n": 37, "use_seedable_sampler": True}),
    "split, seedable": (
        batches,
        {"n": 37, "batch": 12, "split_batches": True, "use_seedable_sampler": True},
    ),
    "ranks seeded differently": (batches, {"n": 37, "seed_by_rank": True}),
    "seedable, ranks seeded differently": (
        batches,
        {"n": 37, "use_seedable_sampler": True, "seed_by_rank": True},
    ),
    "train": (train, {}),
    "train shuffled": (train, {"shuffle": True}),
    "train, accumulate 2": (train, {"accumulate": 2}),
    "train, accumulate 4 of 6": (train, {"accumulate": 4}),
    "train, accumulate 4 of 6, old rule": (
        train,
        {"accumulate": 4, "mean_of_last_window": False},
    ),
    "train, 4 and 2 batches at once": (at_once, {}),
    "train, each window to its end": (train, {"accumulate": 4, "sync_with_dataloader": False}),
    "train, reduced each batch": (train, {"accumulate": 2, "sync_each_batch": True}),
    "train, clipped": (train, {"clip": 0.1}),
    "train, bf16": (train, {"precision": "bf16"}),
    "collectives": (collectives, {}),
    "stream of 37": (read, {}),
    "stream dispatched, split": (read, {"batch": 12, "split_batches": True}),
    "stream dispatched, whole steps": (read, {"n": 48}),
    "stream dispatched, drop_last": (read, {"drop_last": True}),
    "stream dispatched, short": (read, {"n": 2}),
    "stream dispatched, two workers": (read, {"workers": 2}),
    "numbers dispatched": (read, {"data": Numbers, "dispatch_batches": True}),
    "stream read by all": (read, {"dispatch_batches": False}),
    "stream read by all, split": (
        read,
        {"dispatch_batches": False, "batch": 12, "split_batches": True},
    ),
    "stream read by all, two workers": (read, {"dispatch_batches": False, "workers": 2}),
    "stream read by all, skipped": (read, {"dispatch_batches": False, "skip": 2}),
    "numbers, two workers": (read, {"data": Numbers, "workers": 2}),
    "numbers, skipped": (read, {"data": Numbers, "skip": 2}),
    "batches of any size": (ragged, {}),
    "structures": (structures, {}),
    "uneven, joined": (uneven, {}),
    "local SGD": (local_sgd, {}),
    "late sync": (late_sync, {}),
    "trigger": (trigger, {}),
    "subset of 30": (subset, {"n": 30, "batch": 8}),
    "left early": (left_early, {}),
    "generator in step": (seeds, {"rng_types": ["generator"]}),
    "torch in step": (seeds, {"rng_types": ["generator", "torch"]}),
    "printed": (printed, {}),
    "set_seed": (set_seed, {"device_specific": False}),
    "set_seed by rank": (set_seed, {"device_specific": True}),
    **operations.CASES,
    **windows.CASES,
    **DISPATCHED,
}


# Under accelerate 1.15 on gloo: it does not join, and a rank waits.
HANGS = {"uneven, joined", "windows: joined, two models"}
SUMS = {"local SGD"}  # equal up to the order in which a message's parts are summed
OURS = {  # by what accelerate does not have, or cannot do
    "train, accumulate 4 of 6, old rule",
    "windows: two backwards and steps, old rule",
    "operations: ranks seeded otherwise",
    *DISPATCHED,
}


def plain(value: Any) -> Any:
    """The JSON form of a result."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def is_run(case: str, library_name: str, size: int) -> bool:
    """Whether a case is asked for in such a world."""
    if library_name == "accelerate":
        return case not in HANGS | OURS
    return size in RESUMED_IN or not case.startswith("dispatched: resumed")


def cases(library_name: str, size: int) -> dict[str, Any]:
    """Run all cases in this rank of a world."""
    library = importlib.import_module(library_name)
    state = importlib.import_module(f"{library_name}.state")
    found = {}
    for name, (program, options) in CASES.items():
        if not is_run(name, library_name, size):
            continue
        sys.stderr.write(f"{name}\n")  # shown when the world fails
        found[name] = plain(program(library, **options))
        fresh(library_name, world=False)
    state.PartialState().destroy_process_group()
    return found


def main(library_name: str, folder: str, *sizes: str) -> None:
    """Run worlds of forks, which need not import what is imported here; write a file for each."""
    importlib.import_module(library_name).Accelerator  # noqa: B018  # it is imported when used
    importlib.import_module("torch._dynamo")  # which the first optimizer imports
    failed = []
    for size in sizes:
        try:
            found = world(int(size), cases, library_name, env=on_machines_of_two)
            Path(folder, size).write_text(json.dumps(found))
        except AssertionError as error:  # what each rank has said is above
            failed.append(str(error))
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
