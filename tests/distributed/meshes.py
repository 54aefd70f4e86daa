"""Trainings of one model in different layouts of a world: tensor parallel, sharded, and both.

`python meshes.py FOLDER` runs one world after the other, as many processes as it has ranks, and
writes there what each rank has found. Later worlds load the checkpoints of those before them.
"""

import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor
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
from runtime.state import PartialState
from runtime.utils import TorchDynamoPlugin, TorchTensorParallelConfig, set_seed
from tests.distributed.forks import world
from tests.distributed.programs import Numbers, Points, plain
from tests.states import fresh

PLAN = {"blocks.*.up": ColwiseParallel(), "blocks.*.down": "rowwise"}
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {  # name -> the world size, and its layout
    "one process": (1, {}),
    "tp 2": (2, {"tp_size": 2}),
    "dp 2 x tp 2": (4, {"dp_shard_size": 2, "tp_size": 2}),
    "replicas 2 x shards 2": (4, {"dp_replicate_size": 2, "dp_shard_size": 2}),
}
WHOLE = "dp 2 x tp 2, whole files"  # a checkpoint in another form
SIZES = (1, 2, 4)  # the worlds, in this order; and once more one process, which loads
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


class Training:
    """One that can be begun, saved, and begun again."""

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
        self.accelerator = accelerator_of(layout, gradient_accumulation_steps=accumulate, **options)
        torch.manual_seed(11 + seed_by_rank * self.accelerator.process_index)
        model = Net(dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        if warm:  # a step before anything is prepared
            model(Points(4).x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        loader = DataLoader(Points(SIZE), batch_size=SIZE // EPOCH, shuffle=True)
        prepared = self.accelerator.prepare(model, optimizer, loader)
        self.model, self.optimizer, self.loader = prepared
        self.losses: list[float] = []
        self.norms: list[float] = []

    def steps(self, steps: int, *, save: Path | None = None) -> None:
        """Train on some batches, and save after the first `SAVED` of them."""
        while len(self.losses) < steps:
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = nn.functional.mse_loss(self.model(x), y)
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        parameters = self.model.parameters()
                        self.norms.append(float(self.accelerator.clip_grad_norm_(parameters, 0.5)))
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                self.losses.append(float(self.accelerator.reduce(loss.detach(), "mean")))
                if save is not None and len(self.losses) == SAVED:
                    self.accelerator.save_state(save)
                if len(self.losses) == steps:
                    break

    def facts(self) -> dict[str, Any]:
        """Losses, norms, whole weights and optimizer states, and how much of them is here."""
        parameters = list(self.model.named_parameters())
        numbers = [sum(count(one).numel() for _, one in parameters) for count in (local, whole)]
        return {
            "losses": self.losses,
            "norms": self.norms,
            "weights": {plain_name(name): whole(one) for name, one in parameters},
            "moments": [whole(self.optimizer.state[one]["exp_avg"]) for _, one in parameters],
            "share": numbers[0] / numbers[1],
        }


def plain_name(name: str) -> str:
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


def local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else torch.as_tensor(tensor)


def whole(tensor: Any) -> torch.Tensor:
    found = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return torch.as_tensor(found).detach()


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
    """The rest of each training whose checkpoint is there, of whatever layout."""
    found = {}
    for name in (*LAYOUTS, WHOLE):
        if (folder / name).is_dir():
            training = Training(layout, seed_by_rank=True)
            training.accelerator.load_state(folder / name)
            training.steps(STEPS - SAVED)
            found[name] = training.facts()
            forget()
    return found


def resumed(layout: str, folder: Path) -> Any:
    """The rest of a training with dropout, in the same life and in the next one."""
    found: list[Any] = []
    target = folder / f"dropout, {layout}"
    for seed in (5, 6):
        training = Training(layout, dropout=0.5)
        set_seed(seed, device_specific=True)
        if found:
            training.accelerator.load_state(target)
            training.steps(STEPS - SAVED)
        else:
            training.steps(STEPS, save=target)
        facts = training.facts()
        losses = facts["losses"][SAVED - STEPS :]
        found.append([facts["weights"], facts["moments"], losses])
        forget()
    return found


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
    transformers = importlib.import_module("transformers")
    accelerator = accelerator_of(layout, plan=None)
    torch.manual_seed(4)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        vocab_size=20,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
    )
    model = transformers.LlamaForCausalLM(config)
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


def raised(act: Callable[..., Any], *args: Any) -> str:
    try:
        act(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing"


TENSOR = ("tp 2", "dp 2 x tp 2")
DIVIDED = (*TENSOR, "replicas 2 x shards 2")
ALL = ("one process", *DIVIDED)
AGAIN = {"activation_checkpointing": True}
Program = Callable[..., Any]
CASES: dict[str, tuple[Program, dict[str, Any], tuple[str, ...]]] = {
    "saved": (saved, {}, ALL),
    "whole files": (
        saved,
        {"name": WHOLE, "plugin": {"state_dict_type": "FULL_STATE_DICT"}},
        ("dp 2 x tp 2",),
    ),
    "accumulated": (train, {"accumulate": 4}, ("one process", *TENSOR)),
    "warm": (train, {"warm": True}, ("one process", "dp 2 x tp 2")),
    "recomputed": (train, {"plugin": AGAIN}, ("dp 2 x tp 2",)),
    "regions": (train, {"plugin": AGAIN, "regions": True}, ("dp 2 x tp 2",)),
    "bf16": (train, {"mixed_precision": "bf16"}, ("one process", *TENSOR)),
    "resumed": (resumed, {}, DIVIDED),
    "looped": (looped, {}, DIVIDED),
    "dealt": (dealt, {}, ALL),
    "agreed": (agreed, {}, TENSOR),
    "llama": (llama, {}, ("one process", *TENSOR)),
    "buffers": (buffers, {}, DIVIDED),
    "drifting": (drifting, {}, TENSOR),
    "by the script": (by_the_script, {}, TENSOR),
    "refused": (refused, {}, ("tp 2",)),
    "loaded": (loaded, {}, DIVIDED),
    "loaded at last": (loaded, {}, ("one process",)),
}
EXPECTED = (  # warnings
    *("weights or buffers differ between ranks", "processes that train on the same batches"),
    *(".* was saved by fewer processes", "FSDP2-wrapped module .* returned a view"),
    "The .grad attribute of",  # torch.compile looks at it
)


def forget() -> None:
    """Forget the Accelerator; the world stays."""
    fresh("runtime", world=False)
    os.environ.pop("ACCELERATE_USE_FSDP", None)


def rank(cases: tuple[str, ...], size: int, folder: Path) -> dict[str, Any]:
    """Run cases in a rank, in each layout of such a world, and return what each has found."""
    warnings.simplefilter("error")
    for expected in EXPECTED:
        warnings.filterwarnings("ignore", expected)
    found = {}
    for name, (program, options, layouts) in CASES.items():
        for layout in layouts:
            if LAYOUTS[layout][0] == size and name in cases:
                sys.stderr.write(
                    f"{os.environ['RANK']} of {size}: {name}, {layout}\n"
                )  # if it fails
                found[f"{name}, {layout}"] = plain(program(layout, folder, **options))
                forget()
    PartialState().destroy_process_group()
    return found


if __name__ == "__main__":
    for inner in (
        "runtime.checkpoint.sharded",
        "transformers.models.llama.modeling_llama",
        "torch._dynamo",
    ):
        importlib.import_module(inner)  # once: no rank imports it again
    folder = Path(sys.argv[1])
    chosen = tuple(sys.argv[2:]) or tuple(CASES)
    last = tuple(name for name in chosen if name == "loaded at last")
    others = tuple(name for name in chosen if name not in last)
    results: list[dict[str, Any]] = []
    for size, cases in [*((size, others) for size in SIZES), (1, last)]:
        ranks = world(size, rank, cases, folder)
        results += [{"case": name, "ranks": [one[name] for one in ranks]} for name in ranks[0]]
    (folder / "found.json").write_text(json.dumps(results))
