"""Trainings of one model in different layouts of a world: tensor parallel, sharded, and both.

`python meshes.py FOLDER` runs them; see `by_layout`.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.utils.data import DataLoader, IterableDataset

from runtime import (
    Accelerator,
    DataLoaderConfiguration,
    FullyShardedDataParallelPlugin,
    ParallelismConfig,
)
from runtime.local_sgd import LocalSGD
from runtime.utils import TorchDynamoPlugin, TorchTensorParallelConfig, set_seed
from tests.distributed import resumable
from tests.distributed.by_layout import LAST, ONE, Case, Cases, Layouts, forget, raised
from tests.distributed.programs import Numbers, Points
from tests.distributed.resumable import local, small, whole

PLAN = {"blocks.*.up": ColwiseParallel(), "blocks.*.down": "rowwise"}
LAYOUTS: Layouts = {
    ONE: (1, {}),
    "tp 2": (2, {"tp_size": 2}),
    "dp 2 x tp 2": (4, {"dp_shard_size": 2, "tp_size": 2}),
    "replicas 2 x shards 2": (4, {"dp_replicate_size": 2, "dp_shard_size": 2}),
}
WHOLE = "dp 2 x tp 2, whole files"  # a checkpoint in another form
SIZE, EPOCH = 24, 6  # samples; batches of an epoch
SAVED, STEPS = 4, 8  # steps before a checkpoint, in the middle of an epoch; and in all


class Block(nn.Module):
    """A part with a norm that all processes have, and two layers that are divided."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part: torch.Tensor = self.dropout(self.down(self.up(self.norm(x)).relu()))
        return x + part


class Net(nn.Module):
    """Blocks, between two layers that are not divided."""

    _no_split_modules = ("Block",)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        last: torch.Tensor = self.last(x)
        return last


def accelerator_of(layout: str, **options: Any) -> Accelerator:
    """The Accelerator of a layout, in a world of its size."""
    sizes = LAYOUTS[layout][1]
    handler = TorchTensorParallelConfig(plan=options.pop("plan", PLAN))
    plugin = {"auto_wrap_policy": "transformer_based_wrap"} | options.pop("plugin", {})
    return Accelerator(
        dataloader_config=DataLoaderConfiguration(
            split_batches=options.pop("split_batches", True), use_seedable_sampler=True
        ),
        fsdp_plugin=FullyShardedDataParallelPlugin(**plugin) if "dp_shard_size" in sizes else None,
        parallelism_config=ParallelismConfig(
            tp_handler=handler if "tp_size" in sizes else None, **sizes
        ),
        **options,
    )


class Training(resumable.Training):
    """One of a small model, on a regression."""

    all_steps, saved_after = STEPS, SAVED

    def __init__(
        self,
        layout: str,
        *,
        dropout: float = 0.0,
        accumulate: int = 1,
        seed_by_rank: bool = False,
        warm: bool = False,
        regions: bool = False,
        **options: Any,
    ) -> None:
        if regions:  # compiled one by one
            options["dynamo_plugin"] = TorchDynamoPlugin(
                backend="eager", use_regional_compilation=True
            )
        accelerator = accelerator_of(layout, gradient_accumulation_steps=accumulate, **options)
        torch.manual_seed(11 + seed_by_rank * accelerator.process_index)
        model = Net(dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        if warm:  # a step before anything is prepared
            model(Points(4).x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        loader = DataLoader(Points(SIZE), batch_size=SIZE // EPOCH, shuffle=True)
        super().__init__(accelerator, model, optimizer, loader)

    def step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        x, y = batch
        with self.accelerator.accumulate(self.model):
            loss = nn.functional.mse_loss(self.model(x), y)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                parameters = self.model.parameters()
                self.norms.append(float(self.accelerator.clip_grad_norm_(parameters, 0.5)))
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.losses.append(float(self.accelerator.reduce(loss.detach(), "mean")))


def train(layout: str, _: Path, **how: Any) -> Any:
    """A training from its beginning."""
    training = Training(layout, **how)
    graphs = compiled_graphs()
    training.steps(STEPS)
    return training.facts() | {"graphs": compiled_graphs() - graphs}


def compiled_graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def saved(layout: str, folder: Path, *, name: str = "", **how: Any) -> Any:
    """A training that writes a checkpoint on its way, and its weights at the end."""
    training, target = Training(layout, **how), folder / (name or layout)
    training.steps(STEPS, save=target)
    training.accelerator.save_model(training.model, folder / f"exported, {target.name}")
    training.accelerator.wait_for_everyone()
    exported = load_file(folder / f"exported, {target.name}" / "model.safetensors")
    return training.facts() | {"files": files(target), "exported": exported}


def files(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def loaded(layout: str, folder: Path) -> Any:
    return resumable.loaded(lambda: Training(layout, seed_by_rank=True), folder, (*LAYOUTS, WHOLE))


def resumed(layout: str, folder: Path) -> Any:
    return resumable.resumed(lambda: Training(layout, dropout=0.5), folder / f"dropout, {layout}")


def looped(layout: str, folder: Path) -> Any:
    """Two lives of a training by `epochs`, of which the first one fails; and one that does not."""
    found = []
    for name, fails_at in (("undisturbed", None), ("disturbed", 8), ("disturbed", None)):
        os.environ |= {
            "ACCELERATEDJOB_CHECKPOINT_DIR": str(folder / f"{name}, {layout}"),
            "ACCELERATEDJOB_CHECKPOINT_EVERY_STEPS": "4",
        }
        try:
            found.append(_life(layout, fails_at))
        except _Failure:
            found.append({})
        forget()
    for name in ("DIR", "EVERY_STEPS"):
        del os.environ[f"ACCELERATEDJOB_CHECKPOINT_{name}"]
    return found[0], found[2]


class _Failure(Exception):
    pass


def _life(layout: str, fails_at: int | None) -> dict[str, Any]:
    training = Training(layout)
    accelerator, first = training.accelerator, None
    for _epoch in accelerator.epochs(2):
        for x, y in training.loader:
            first = accelerator.completed_steps if first is None else first
            if accelerator.completed_steps == fails_at:
                accelerator.wait_for_everyone()
                raise _Failure
            accelerator.backward(nn.functional.mse_loss(training.model(x), y))
            training.optimizer.step()
            training.optimizer.zero_grad()
    return training.facts() | {"first": first}


class Stream(IterableDataset[int]):
    """0 to n-1."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def dealt(layout: str, _: Path) -> Any:
    """What each rank reads of 11 samples in batches of 2, and what metrics gather of it."""
    accelerator = accelerator_of(layout, split_batches=False)
    found: dict[str, Any] = {}
    for name, dataset in (
        *(("indices", Numbers(11)), ("stream", Stream(11))),
        ("stream that each reads", Stream(11)),
    ):
        accelerator.dataloader_config.dispatch_batches = name == "stream"
        loader = accelerator.prepare(DataLoader(dataset, batch_size=2))
        batches = list(loader)
        tensors, objects = [], []
        for batch in loader:
            tensors.append(accelerator.gather_for_metrics(batch))
            objects.append(accelerator.gather_for_metrics(batch.tolist()))
        found[name] = {"own": batches, "tensors": tensors, "objects": objects}
    with accelerator.split_between_processes(list(range(6))) as share:
        found["share"] = share
    return found


def agreed(layout: str, _: Path) -> Any:
    """What a rank draws, and its learning rate, where seeds and weights differ at first."""
    accelerator = accelerator_of(layout, split_batches=False)
    set_seed(3 + accelerator.process_index)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    accelerator.backward(model(torch.ones(2, 6)).sum())
    optimizer.step()
    scheduler.step()
    return {
        "drawn": torch.rand(2),
        "rate": scheduler.get_last_lr(),
        "weights": {name: whole(one) for name, one in model.named_parameters()},
        "place": [
            *(accelerator.data_parallel_rank, accelerator.data_parallel_shard_rank),
            accelerator.tensor_parallel_rank,
        ],
    }


def llama(layout: str, _: Path) -> Any:
    """A model of transformers, divided by its own plan."""
    accelerator = accelerator_of(layout, plan=None)
    torch.manual_seed(4)
    model = small("Llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    ids = torch.arange(36).reshape(4, 9) % 19
    found = []
    for _step in range(3):
        with accelerator.split_between_processes(ids) as own:
            loss = model(input_ids=own, labels=own).loss
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found += [float(accelerator.reduce(loss.detach(), "mean")), float(norm)]
    state = accelerator.get_state_dict(model)
    parts = [sum(count(p).numel() for p in model.parameters()) for count in (local, whole)]
    return {"found": found, "share": parts[0] / parts[1], "keys": len(state)}


class Tied(nn.Module):
    """One weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.down.weight = self.up.weight


def refused(layout: str, _: Path) -> Any:
    """What cannot be divided, and what cannot be done with a divided model."""
    models: list[tuple[Any, nn.Module]] = [
        (None, Net()),
        ({"block.up": "colwise"}, Net()),
        ({"up": "colwise"}, Tied()),
        ({"0": "packed_colwise"}, nn.Sequential(nn.Linear(2, 2))),
        ({"0": "colwise"}, nn.Sequential(nn.Linear(2, 3))),
    ]
    found = []
    for plan, model in models:
        accelerator = accelerator_of(layout, plan=plan)
        found.append(raised(accelerator.prepare, model))
        forget()
    training = Training(layout)
    accelerator, model = training.accelerator, training.model
    found.append(raised(LocalSGD, accelerator, model, 2))
    found.append(raised(accelerator.join_uneven_inputs([model]).__enter__))
    return found


class Scaled(nn.Module):
    """Between its two layers a scale for each head, as models have norms of queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 1)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        x = (x.view(*x.shape[:-1], -1, 3) * self.scale).flatten(-2)
        last: torch.Tensor = self.down(x)
        return last


def buffers(layout: str, _: Path) -> Any:
    """A buffer that is other on each rank before a model of equal weights is prepared."""
    accelerator = accelerator_of(layout)
    torch.manual_seed(3)
    model = Net()
    model.register_buffer("table", torch.full((2,), float(accelerator.process_index)))
    return accelerator.prepare(model).table


def drifting(layout: str, _: Path) -> Any:
    """A backward of a model whose scale each process would train with its own heads only."""
    accelerator = accelerator_of(layout, plan={"up": "colwise", "down": "rowwise"})
    torch.manual_seed(3)
    model = accelerator.prepare(Scaled())
    return raised(accelerator.backward, model(Points(4).x).square().mean())


def by_the_script(layout: str, _: Path) -> Any:
    """A model that the script itself divides, with equal weights on all ranks, or others."""
    found: list[Any] = []
    for seed_by_rank in (False, True):
        accelerator = accelerator_of(layout, plan={"none": "colwise"})
        mesh = accelerator.torch_device_mesh
        assert mesh is not None
        torch.manual_seed(11 + seed_by_rank * accelerator.data_parallel_shard_rank)
        model = Net()
        parallelize_module(
            model,
            mesh["tp"],
            {"blocks.*.up": ColwiseParallel(), "blocks.*.down": RowwiseParallel()},
        )
        found.append(raised(accelerator.prepare, model))
        x = Points(4).x
        found.append(None if seed_by_rank else model(x).sum().item())
        forget()
    return found


TENSOR = ("tp 2", "dp 2 x tp 2")
DIVIDED = (*TENSOR, "replicas 2 x shards 2")
ALL = (ONE, *DIVIDED)
AGAIN = {"activation_checkpointing": True}
CASES: dict[str, Case] = {
    "saved": (saved, {}, ALL),
    "whole files": (
        saved,
        {"name": WHOLE, "plugin": {"state_dict_type": "FULL_STATE_DICT"}},
        ("dp 2 x tp 2",),
    ),
    "accumulated": (train, {"accumulate": 4}, (ONE, *TENSOR)),
    "warm": (train, {"warm": True}, (ONE, "dp 2 x tp 2")),
    "recomputed": (train, {"plugin": AGAIN}, ("dp 2 x tp 2",)),
    "regions": (train, {"plugin": AGAIN, "regions": True}, ("dp 2 x tp 2",)),
    "bf16": (train, {"mixed_precision": "bf16"}, (ONE, *TENSOR)),
    "resumed": (resumed, {}, DIVIDED),
    "looped": (looped, {}, DIVIDED),
    "dealt": (dealt, {}, ALL),
    "agreed": (agreed, {}, TENSOR),
    "llama": (llama, {}, (ONE, *TENSOR)),
    "buffers": (buffers, {}, DIVIDED),
    "drifting": (drifting, {}, TENSOR),
    "by the script": (by_the_script, {}, TENSOR),
    "refused": (refused, {}, ("tp 2",)),
    "loaded": (loaded, {}, DIVIDED),
    LAST: (loaded, {}, (ONE,)),
}
EXPECTED = (  # warnings
    *("weights or buffers differ between ranks", "processes that train on the same batches"),
    *(".* was saved by fewer processes", "FSDP2-wrapped module .* returned a view"),
    "The .grad attribute of",  # torch.compile looks at it
)
MESHES = Cases(LAYOUTS, CASES, EXPECTED)

if __name__ == "__main__":
    MESHES.run(
        Path(sys.argv[1]),
        *sys.argv[2:],
        imports=(
            *("runtime.checkpoint.sharded", "transformers.models.llama.modeling_llama"),
            "torch._dynamo",
        ),
    )
