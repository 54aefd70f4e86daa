"""Trainings of one model, sharded and not, that run under `runtime` and under `accelerate`.

`python sharding_programs.py FOLDER` runs one world after the other, as many processes as it has
ranks, and writes there what each has found. A world also finds the checkpoints of those before it.
Sizes are odd: no parameter divides evenly.
"""

import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from tests.distributed.forks import world
from tests.distributed.programs import Library, Points, plain
from tests.states import fresh

WORLDS = (("runtime", 2), ("runtime", 1), ("runtime", 3), ("runtime", 4), ("accelerate", 2))
LIBRARIES: dict[str, Library] = {}

SIZE = 72  # samples, which 1, 2, 3 and 4 processes share evenly in batches of 12


class Block(nn.Module):
    """A part that is sharded on its own."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(7, 7)
        self.dropout = nn.Dropout(dropout)
        self.shift: torch.Tensor
        self.register_buffer("shift", torch.zeros(7), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        part: torch.Tensor = self.dropout(self.inner(x).tanh())
        return part + x + self.shift


class Net(nn.Module):
    """Blocks, between two layers that share nothing with them."""

    _no_split_modules = ("Block",)

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(6, 7)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(3))
        self.last = nn.Linear(7, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        last: torch.Tensor = self.last(x)
        return last


class Training:
    """One that can be begun, saved, and begun again."""

    def __init__(
        self,
        library: Library,
        *,
        plugin: dict[str, Any] | None = None,
        layout: dict[str, int] | None = None,
        accumulate: int = 1,
        dropout: float = 0.0,
        seed_by_rank: bool = False,
        warm: bool = False,
        frozen: str | None = None,
        **options: Any,
    ) -> None:
        utils = importlib.import_module(f"{library.__name__}.utils")
        chosen = None
        if plugin is not None:
            chosen = utils.FullyShardedDataParallelPlugin(fsdp_version=2, **plugin)
        self.accelerator = library.Accelerator(
            dataloader_config=utils.DataLoaderConfiguration(
                split_batches=True, use_seedable_sampler=True
            ),
            gradient_accumulation_steps=accumulate,
            fsdp_plugin=chosen,
            parallelism_config=utils.ParallelismConfig(**layout) if layout else None,
            **options,
        )
        if library.__name__ == "accelerate":  # 1.15 takes the plugin, but shards on no CPU
            state = importlib.import_module("accelerate.state")
            for one in (state.PartialState(), self.accelerator.state):
                one.distributed_type = utils.DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = chosen
        torch.manual_seed(11 + seed_by_rank * self.accelerator.process_index)
        model = Net(dropout)
        if frozen is not None:
            model.get_submodule(frozen).requires_grad_(requires_grad=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        if warm:  # a step before anything is prepared
            model(Points(4).x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.9)
        loader = DataLoader(Points(SIZE), batch_size=12, shuffle=True)
        prepared = self.accelerator.prepare(optimizer, model, loader, scheduler)
        self.optimizer, self.model, self.loader, self.scheduler = prepared

    def steps(self, steps: int, *, clip: float | None = None) -> dict[str, Any]:
        """What comes of some batches; an epoch has six."""
        losses: list[float] = []
        norms: list[float] = []
        while len(losses) < steps:
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = nn.functional.mse_loss(self.model(x), y)
                    self.accelerator.backward(loss)
                    if clip is not None and self.accelerator.sync_gradients:
                        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                        norms.append(float(norm))
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                losses.append(float(self.accelerator.reduce(loss.detach(), "mean")))
                if len(losses) == steps:
                    break
        return {"losses": losses, "norms": norms} | self.facts()

    def facts(self) -> dict[str, Any]:
        """The whole weights, and how much of them is here."""
        whole = sum(p.numel() for p in self.model.parameters())
        here = sum(local(p).numel() for p in self.model.parameters())
        state = self.optimizer.state.values()
        return {
            "weights": whole_weights(self.model),
            "share": here / whole,
            "state": sum(local(one["exp_avg"]).numel() for one in state) / whole if state else 0,
            "kind": str(self.accelerator.distributed_type),
            "classes": isinstance(self.accelerator.unwrap_model(self.model), Net),
        }

    def moments(self) -> list[Any]:
        """Weights and what the optimizer knows of them, whole."""
        state = self.optimizer.state
        return [
            whole(tensor).tolist()
            for p in self.model.parameters()
            for tensor in (p, state[p]["step"], state[p]["exp_avg"], state[p]["exp_avg_sq"])
        ]


def local(tensor: Any) -> torch.Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else torch.as_tensor(tensor)


def whole(tensor: Any) -> torch.Tensor:
    """All of a tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else torch.as_tensor(tensor)


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """All weights, under the names that they have in the script."""
    return {
        name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", ""): whole(p).tolist()
        for name, p in model.named_parameters()
    }


def train(
    library: Library, _: Path, *, steps: int = 6, clip: float | None = None, **how: Any
) -> Any:
    """A training from its beginning."""
    return Training(library, **how).steps(steps, clip=clip)


def saved(library: Library, folder: Path, *, name: str, **how: Any) -> Any:
    """An epoch, and a checkpoint."""
    training = Training(library, **how)
    found = training.steps(6)
    training.accelerator.save_state(folder / name / str(training.accelerator.num_processes))
    return found | {"before": training.moments()}


def loaded(library: Library, folder: Path, *, name: str, **how: Any) -> Any:
    """From the checkpoint of each world that has saved one, two batches of the next epoch."""
    found = {}
    for one in sorted((folder / name).iterdir()):
        training = Training(library, seed_by_rank=True, **how)
        training.accelerator.load_state(one)
        before = training.moments()
        found[one.name] = training.steps(2) | {"before": before}
        forget(library.__name__)
    return found


def exported(library: Library, folder: Path, **how: Any) -> Any:
    """The whole weights, as other programs read them."""
    training = Training(library, **how)
    target = folder / f"exported {training.accelerator.num_processes}"
    training.accelerator.save_model(training.model, target)
    return {
        "keys": list(training.accelerator.get_state_dict(training.model)),
        "weights": whole_weights(training.model),
    }


def refused(library: Library, _: Path) -> Any:
    """An optimizer that is prepared after its model was sharded, or with another."""
    utils = importlib.import_module(f"{library.__name__}.utils")
    accelerator = library.Accelerator(fsdp_plugin=utils.FullyShardedDataParallelPlugin())
    found = []
    for others in ([], [nn.Linear(2, 2)]):
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters())
        try:
            accelerator.prepare(*others, optimizer)
        except ValueError as error:
            found.append(str(error))
    return found


def afterwards(library: Library, _: Path) -> Any:
    """Two models sharded first; one optimizer, made of both then, is prepared alone."""
    utils = importlib.import_module(f"{library.__name__}.utils")
    accelerator = library.Accelerator(fsdp_plugin=utils.FullyShardedDataParallelPlugin())
    torch.manual_seed(3)
    models = accelerator.prepare(nn.Linear(5, 3), nn.Linear(3, 1))
    parameters = [one for model in models for one in model.parameters()]
    optimizer = accelerator.prepare(torch.optim.SGD(parameters, lr=0.1))
    x = torch.arange(10.0).reshape(2, 5) / 10
    for _step in range(2):
        optimizer.zero_grad()
        accelerator.backward(models[1](models[0](x)).square().mean())
        accelerator.clip_grad_value_(parameters, 0.5)
        optimizer.step()
    return [whole_weights(model) for model in models]


def halves(library: Library, _: Path) -> Any:
    """Gradients that stay here for one batch, and are averaged with the next."""
    training = Training(library, plugin=BLOCKS)
    accelerator, model = training.accelerator, training.model
    x = torch.full((2, 6), 1.0 + accelerator.process_index)
    with accelerator.no_sync(model):
        accelerator.backward(model(x).sum())
    alone = [p.grad is None for p in model.parameters()]
    accelerator.backward(model(x * 2).sum())
    return {"alone": alone, "together": {n: whole(p.grad) for n, p in model.named_parameters()}}


class Odd(nn.Module):
    """One weight in two places, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 5)
        self.last.weight = self.first.weight
        self.unused = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.last(self.first(x).tanh())
        return last


def odd(library: Library, folder: Path, *, name: str, **plugin: Any) -> Any:
    """A step, and one more from a checkpoint of it; ranks begin with different weights."""
    utils = importlib.import_module(f"{library.__name__}.utils")
    found: dict[str, Any] = {}
    for attempt in range(2):
        accelerator = library.Accelerator(
            fsdp_plugin=utils.FullyShardedDataParallelPlugin(**plugin)
        )
        torch.manual_seed(7 + accelerator.process_index)
        model = Odd()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model, optimizer = accelerator.prepare(model, optimizer)
        target = folder / f"odd {name} {accelerator.num_processes}"
        if attempt:
            accelerator.load_state(target)
        accelerator.backward(model(torch.eye(5)).square().sum())
        optimizer.step()
        if not attempt:
            accelerator.save_state(target)
        found[str(attempt)] = whole_weights(model)
        found["tied"] = model.first.weight is model.last.weight
        found["states"] = len(optimizer.state)
        forget(library.__name__)
    return found


def lower(library: Library, _: Path) -> Any:
    """What a model computes in, keeps, and saves."""
    training = Training(library, plugin=BLOCKS, mixed_precision="bf16")
    with training.accelerator.autocast():
        loss = training.model(Points(4).x).sum()
    training.accelerator.backward(loss)
    parameters = list(training.model.parameters())
    dtypes = {str(loss.dtype), *(str(p.dtype) for p in parameters)}
    return sorted(dtypes | {str(p.grad.dtype) for p in parameters if p.grad is not None})


def merged(library: Library, folder: Path) -> Any:
    """One file, made of the parts that were saved last."""
    utils = importlib.import_module(f"{library.__name__}.utils")
    library.Accelerator()
    target = folder / f"merged by {library.__name__}"
    parts = folder / "parts/2/pytorch_model_fsdp_0"
    utils.merge_fsdp_weights(str(parts), str(target))
    return load_file(target / "model.safetensors")


def damaged(library: Library, folder: Path, **how: Any) -> Any:
    """What each rank raises where rank 0 alone reads, and cannot."""
    utils = importlib.import_module(f"{library.__name__}.utils")
    training, found = Training(library, **how), []
    accelerator = training.accelerator
    target = folder / f"damaged {accelerator.num_processes}"
    for name in ("pytorch_model_fsdp.bin", "optimizer.bin"):
        accelerator.save_state(target)
        if accelerator.is_main_process:
            (target / "manifest.json").unlink()  # which would tell all ranks of the damage
            (target / name).write_bytes(b"no file of torch's")
        accelerator.wait_for_everyone()
        found.append(_raised(lambda: accelerator.load_state(target)))
    parts = folder / "parts/2/pytorch_model_fsdp_0"
    blocked = target / "a file"
    if accelerator.is_main_process:
        blocked.write_text("in the place of a directory")
    accelerator.wait_for_everyone()
    found.append(_raised(lambda: utils.merge_fsdp_weights(str(parts), str(blocked))))
    return found


def _raised(act: Callable[[], Any]) -> str:
    try:
        act()
    except Exception as error:  # noqa: BLE001  # whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing"


BLOCKS = {"auto_wrap_policy": "transformer_based_wrap"}
FILES = BLOCKS | {"state_dict_type": "FULL_STATE_DICT"}
AGAIN = BLOCKS | {"activation_checkpointing": True}
FROM_0 = BLOCKS | {"cpu_ram_efficient_loading": True}
HYBRID = {"dp_replicate_size": 2, "dp_shard_size": 2}
ALL, TWO, FEW = (1, 2, 3, 4), (2,), (1, 2)  # the worlds of a case
Program = Callable[..., Any]
CASES: dict[str, tuple[Program, dict[str, Any], tuple[int, ...]]] = {
    "whole": (train, {}, FEW),
    "whole, an epoch and two batches": (train, {"steps": 8}, (1,)),
    "whole, clipped": (train, {"clip": 0.1}, FEW),
    "whole, accumulate 4 of 6": (train, {"accumulate": 4}, FEW),
    "whole, warm": (train, {"warm": True}, FEW),
    "blocks": (train, {"plugin": BLOCKS}, ALL),
    "blocks, clipped": (train, {"plugin": BLOCKS, "clip": 0.1}, ALL),
    "blocks, accumulate 4 of 6": (train, {"plugin": BLOCKS, "accumulate": 4}, FEW),
    "blocks, warm": (train, {"plugin": BLOCKS, "warm": True}, (3,)),
    "by size": (
        train,
        {"plugin": {"auto_wrap_policy": "size_based_wrap", "min_num_params": 40}},
        TWO,
    ),
    "one part": (train, {"plugin": {}}, TWO),
    "kept": (train, {"plugin": BLOCKS | {"reshard_after_forward": False}}, TWO),
    "from rank 0": (train, {"plugin": BLOCKS, "seed_by_rank": True}, TWO),
    "read by rank 0": (train, {"plugin": FROM_0, "seed_by_rank": True}, (3,)),
    "on the CPU": (train, {"plugin": BLOCKS | {"cpu_offload": True}}, TWO),
    "compiled": (train, {"plugin": BLOCKS, "dynamo_backend": "eager"}, TWO),
    "dropout": (train, {"plugin": BLOCKS, "dropout": 0.5, "steps": 2}, TWO),
    "dropout, activations again": (train, {"plugin": AGAIN, "dropout": 0.5, "steps": 2}, TWO),
    "ignored": (train, {"plugin": BLOCKS | {"ignored_modules": "first"}, "frozen": "first"}, TWO),
    "ignored, whole": (train, {"frozen": "first"}, (1,)),
    "hybrid": (train, {"plugin": BLOCKS, "layout": HYBRID, "clip": 0.1}, (4,)),
    "hybrid, from rank 0": (
        train,
        {"plugin": FROM_0, "layout": HYBRID, "clip": 0.1, "seed_by_rank": True},
        (4,),
    ),
    "copies": (train, {"layout": {"dp_replicate_size": 2}}, TWO),
    "refused": (refused, {}, TWO),
    "afterwards": (afterwards, {}, FEW),
    "halves": (halves, {}, FEW),
    "odd": (odd, {"name": "parts"}, FEW),
    "odd, whole files": (odd, {"name": "files", "state_dict_type": "FULL_STATE_DICT"}, TWO),
    "lower": (lower, {}, TWO),
    "exported": (exported, {"plugin": BLOCKS}, FEW),
    "save whole": (saved, {"name": "whole"}, FEW),
    "save parts": (saved, {"name": "parts", "plugin": BLOCKS}, (1, 2, 3)),
    "save files": (saved, {"name": "files", "plugin": FILES}, TWO),
    "load parts": (loaded, {"name": "parts", "plugin": BLOCKS}, ALL),
    "load parts, whole": (loaded, {"name": "parts"}, FEW),
    "load files": (loaded, {"name": "files", "plugin": BLOCKS}, (1, 3)),
    "load files, whole": (loaded, {"name": "files"}, FEW),
    "load whole": (loaded, {"name": "whole", "plugin": BLOCKS}, (1, 3)),
    "merged": (merged, {}, TWO),
    "damaged": (damaged, {"plugin": FILES}, TWO),
}
THEIRS = ("blocks", "blocks, clipped", "one part", "merged", "load parts")


def forget(library_name: str) -> None:
    """Forget the Accelerator; the world stays."""
    fresh(library_name, world=False)
    for name in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"):  # Accelerators set them
        os.environ.pop(name, None)


def rank(library_name: str, size: int, folder: Path) -> dict[str, Any]:
    """Run the cases of a world in one of its ranks, and return what each has found."""
    if library_name == "runtime":
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "weights or buffers differ between ranks")
        warnings.filterwarnings("ignore", ".* was saved by fewer processes")
        warnings.filterwarnings("ignore", "The .grad attribute of")  # torch.compile's own look
    library, found = LIBRARIES[library_name], {}
    for name, (program, options, worlds) in CASES.items():
        if size not in worlds or (library_name == "accelerate" and name not in THEIRS):
            continue
        sys.stderr.write(f"{library_name} {os.environ['RANK']} of {size}: {name}\n")  # if it fails
        found[name] = plain(program(library, folder, **options))
        forget(library_name)
    importlib.import_module(f"{library_name}.state").PartialState().destroy_process_group()
    return found


if __name__ == "__main__":
    # Imported once: what torch has for sharding takes longer to import than a case to run.
    LIBRARIES |= {name: importlib.import_module(name) for name in ("runtime", "accelerate")}
    for inner in ("runtime.checkpoint.sharded", "torch._dynamo"):  # for the first optimizer
        importlib.import_module(inner)
    folder = Path(sys.argv[1])
    for library_name, size in WORLDS:
        found = world(size, rank, library_name, folder)
        (folder / f"{library_name} {size}").write_text(json.dumps(found))
