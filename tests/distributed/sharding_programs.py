"""Trainings of one model, sharded and not, that run under `runtime` and under `accelerate`.

`python sharding_programs.py LIBRARY FILE FOLDER` runs every case in this rank. Checkpoints are
under FOLDER, where each world finds those of the worlds before it. Sizes are odd: no parameter
divides evenly.
"""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from tests.distributed.programs import Library, Points, plain

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
            self.accelerator.state.distributed_type = utils.DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = chosen
        torch.manual_seed(11 + seed_by_rank * self.accelerator.process_index)
        model = Net(dropout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        if warm:  # a step before anything is prepared
            model(Points(4).x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.9)
        loader = DataLoader(Points(SIZE), batch_size=12, shuffle=True)
        prepared = self.accelerator.prepare(optimizer, model, loader, scheduler)
        self.optimizer, self.model, self.loader, self.scheduler = prepared

    def epochs(self, epochs: int, *, clip: float | None = None) -> dict[str, Any]:
        """What comes of some epochs."""
        losses, norms = [], []
        for _ in range(epochs):
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


def local(tensor: Any) -> torch.Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else torch.as_tensor(tensor)


def whole_weights(model: nn.Module) -> dict[str, Any]:
    return {
        name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", ""): (
            p.full_tensor() if isinstance(p, DTensor) else p
        )
        for name, p in model.named_parameters()
    }


def train(
    library: Library, _: Path, *, epochs: int = 2, clip: float | None = None, **how: Any
) -> Any:
    return Training(library, **how).epochs(epochs, clip=clip)


def saved(library: Library, folder: Path, *, name: str, **how: Any) -> Any:
    """One epoch, a checkpoint, another epoch."""
    training = Training(library, **how)
    training.epochs(1)
    training.accelerator.save_state(folder / name / str(training.accelerator.num_processes))
    return training.epochs(1)


def loaded(library: Library, folder: Path, *, name: str, **how: Any) -> Any:
    """From each world's checkpoint, the other epoch; `moved`: already before."""
    found = {}
    for one in sorted((folder / name).iterdir()):
        training = Training(library, seed_by_rank=True, **how)
        training.accelerator.load_state(one)
        found[one.name] = training.epochs(1)
        fresh(library.__name__)
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


BLOCKS = {"auto_wrap_policy": "transformer_based_wrap"}
WHOLE_FILES = BLOCKS | {"state_dict_type": "FULL_STATE_DICT"}
Program = Callable[..., Any]
CASES: dict[str, tuple[Program, dict[str, Any]]] = {
    "whole": (train, {}),
    "whole, clipped": (train, {"clip": 0.1}),
    "whole, accumulate 4 of 6": (train, {"accumulate": 4}),
    "whole, warm": (train, {"warm": True}),
    "blocks": (train, {"plugin": BLOCKS}),
    "blocks, clipped": (train, {"plugin": BLOCKS, "clip": 0.1}),
    "blocks, accumulate 4 of 6": (train, {"plugin": BLOCKS, "accumulate": 4}),
    "blocks, warm": (train, {"plugin": BLOCKS, "warm": True}),
    "by size": (train, {"plugin": {"auto_wrap_policy": "size_based_wrap", "min_num_params": 40}}),
    "one part": (train, {"plugin": {}}),
    "gathered weights are kept": (train, {"plugin": BLOCKS | {"reshard_after_forward": False}}),
    "from rank 0": (train, {"plugin": BLOCKS, "seed_by_rank": True}),
    "read by rank 0": (
        train,
        {"plugin": BLOCKS | {"cpu_ram_efficient_loading": True}, "seed_by_rank": True},
    ),
    "on the CPU": (train, {"plugin": BLOCKS | {"cpu_offload": True}}),
    "exported": (exported, {"plugin": BLOCKS}),
    "save whole": (saved, {"name": "whole"}),
    "save parts": (saved, {"name": "parts", "plugin": BLOCKS}),
    "save files": (saved, {"name": "files", "plugin": WHOLE_FILES}),
    "load parts": (loaded, {"name": "parts", "plugin": BLOCKS}),
    "load parts, whole": (loaded, {"name": "parts"}),
    "load files": (loaded, {"name": "files", "plugin": BLOCKS}),
    "load files, whole": (loaded, {"name": "files"}),
    "load whole": (loaded, {"name": "whole", "plugin": BLOCKS}),
}


def fresh(library_name: str) -> None:
    """Forget the Accelerator; the world stays."""
    state = importlib.import_module(f"{library_name}.state")
    state.AcceleratorState._reset_state()
    state.GradientState._reset_state()


def main(library_name: str, file: str, folder: str) -> None:
    """Run all cases in this rank."""
    library = importlib.import_module(library_name)
    state = importlib.import_module(f"{library_name}.state")
    found = {}
    for name, (program, options) in CASES.items():
        sys.stderr.write(f"{name}\n")  # shown when the world fails
        found[name] = plain(program(library, Path(folder), **options))
        fresh(library_name)
    Path(file).write_text(json.dumps(found))
    state.PartialState().destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
