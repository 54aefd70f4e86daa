"""Training on one GPU: steps, batches that are copied to it, and checkpoints of its memory.

All times end when the GPU has done its work. The floors are written with torch only.
"""

import functools
import importlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bench.case import Case, Goal, Side
from bench.libraries import TORCH, Timed, module
from bench.step import BATCH, STEPS, Points
from tests.states import fresh

_TOKENS = (8, 1024)  # sequences and tokens of a batch of GPT-2
_MEGABYTES = 128  # of a batch that is copied to the GPU
_AFTER = 4  # steps behind a checkpoint that are measured
_ONE: dict[str, int] = {}


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def _timed(function: Callable[[], Any]) -> float:
    """Return the seconds of a call, until the GPU has done its work."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _accelerator(library: str, **options: Any) -> Any:
    """Make an Accelerator on the GPU."""
    fresh(library)
    return module(library, "accelerator").Accelerator(**options)


# ---- Steps


def tiny(library: str) -> Timed:
    """Train a tiny model for an epoch; measures seconds per step."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)).to(_device())
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.01)
    loader: Any = DataLoader(Points(BATCH * STEPS), batch_size=BATCH, pin_memory=True)
    backward: Callable[..., Any] = torch.Tensor.backward
    clip: Callable[..., Any] = nn.utils.clip_grad_norm_
    if library != TORCH:
        made = _accelerator(library)
        model, optimizer, loader = made.prepare(model, optimizer, loader)
        backward, clip = made.backward, made.clip_grad_norm_
    else:
        loader = _Moved(loader)

    def epoch() -> torch.Tensor:
        loss = torch.zeros(())
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            backward(loss)
            clip(model.parameters(), 1.0)
            optimizer.step()
        return loss

    return Timed(lambda: f"{float(epoch()):.4g}", lambda: _timed(epoch) / STEPS)


class _Moved:
    """A loader whose batches are copied to the GPU, as a script writes it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield [one.to(_device(), non_blocking=True) for one in batch]


class _Gpt2:
    """GPT-2 with 124M parameters and its AdamW, from the configuration, in bf16."""

    def __init__(self, library: str) -> None:
        transformers: Any = importlib.import_module("transformers")  # takes seconds

        torch.manual_seed(0)
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
        with _device():
            model: Any = transformers.GPT2LMHeadModel(config)
            self._ids = torch.randint(0, config.vocab_size, _TOKENS)
        optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.bare = model, optimizer
        self.made: Any = None
        if library != TORCH:
            project = module(library, "utils").ProjectConfiguration
            behind = {"write_behind": True} if library == "runtime" else {}
            self.made = _accelerator(
                library, mixed_precision="bf16", project_config=project(**behind)
            )
            model, optimizer = self.made.prepare(model, optimizer)
        self.model, self.optimizer = model, optimizer
        self.before_step: Callable[[], Any] = lambda: None

    def steps(self, times: int) -> torch.Tensor:
        """Train on the same batch, and return the last loss."""
        loss = torch.zeros(())
        for _ in range(times):
            loss = self._loss()
            self.before_step()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss

    def _loss(self) -> torch.Tensor:
        if self.made is None:
            with torch.autocast("cuda", torch.bfloat16):
                loss: torch.Tensor = self.model(self._ids, labels=self._ids).loss
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            return loss
        loss = self.model(self._ids, labels=self._ids).loss
        self.made.backward(loss)
        return loss

    def tensors(self) -> list[torch.Tensor]:
        """Return the weights and the state of the optimizer, which are on the GPU."""
        model, optimizer = self.bare
        moments = (one for state in optimizer.state.values() for one in state.values())
        found = [*(one.data for one in model.parameters()), *moments]
        return [one for one in found if one.device.type == "cuda"]


@functools.cache
def _gpt2(library: str) -> _Gpt2:
    """Return the training of a library, which all cases of this process share."""
    made = _Gpt2(library)
    made.steps(1)
    return made


def gpt2(library: str) -> Timed:
    """Train GPT-2; measures seconds per step."""
    one = _gpt2(library)
    return Timed(lambda: f"{float(one.steps(2)):.2g}", lambda: _timed(lambda: one.steps(8)) / 8)


# ---- Batches


class _Pinned(Dataset[torch.Tensor]):
    """Large samples in pinned memory, which cost nothing to read."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        bytes_ = _MEGABYTES * 10**6
        self._values = [torch.ones(bytes_ // 4).pin_memory() for _ in range(4)]

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._values[index % len(self._values)]


def batches(library: str, *, steps: int, copies: bool = True) -> Timed:
    """Compute on large batches; measures seconds per step.

    Args:
        library: the library; torch copies each batch before its step.
        steps: the number of steps.
        copies: whether batches are copied; the floor has one on the GPU.
    """
    loader: Any = DataLoader(_Pinned(steps), batch_size=1, collate_fn=_alone)
    if library != TORCH:
        config = module(library, "utils").DataLoaderConfiguration(non_blocking=True)
        loader = _accelerator(library, dataloader_config=config).prepare(loader)
    elif copies:
        loader = _Moved(DataLoader(_Pinned(steps), batch_size=1, collate_fn=list))
    else:
        loader = [torch.ones(_MEGABYTES * 10**6 // 4, device=_device())] * steps
    weight = torch.eye(8192, device=_device(), dtype=torch.bfloat16)

    def epoch() -> torch.Tensor:
        total = torch.zeros((), device=_device())
        for batch in loader:
            value = weight
            for _ in range(12):
                value = value @ weight
            total += _first(batch).mean() * value[0, 0]
        return total

    return Timed(lambda: float(epoch()), lambda: _timed(epoch) / steps)


def _alone(samples: Sequence[torch.Tensor]) -> torch.Tensor:
    return samples[0]


def _first(batch: Any) -> torch.Tensor:
    found: torch.Tensor = batch[0] if isinstance(batch, list) else batch
    return found


# ---- Checkpoints


class _Floor:
    """The copy that a checkpoint needs at least: to pinned memory, beside the next step."""

    def __init__(self, training: _Gpt2) -> None:
        self._tensors = training.tensors()
        self._copies = [torch.empty_like(one, device="cpu").pin_memory() for one in self._tensors]
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped in torch
        training.before_step = self._hold
        self.save()

    def save(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            torch._foreach_copy_(self._copies, self._tensors, non_blocking=True)

    def _hold(self) -> None:
        torch.cuda.current_stream().wait_stream(self._stream)

    def clear(self) -> None:
        """There are no files."""

    def wait(self) -> None:
        self._stream.synchronize()


class _Saved:
    """Checkpoints of a library in a temporary directory."""

    def __init__(self, training: _Gpt2) -> None:
        self._made = training.made
        self._folder = tempfile.TemporaryDirectory()
        self.target = Path(self._folder.name, "checkpoint")

    def save(self) -> None:
        """Begin to write; an automatic checkpoint in our case."""
        if not hasattr(self._made, "wait_for_checkpoint"):
            self._made.save_state(str(self.target))
            return
        from runtime.checkpoint.checkpointer import Additions, Target  # noqa: PLC0415  # not of Accelerate's process

        self._made._checkpointer.write(  # noqa: SLF001  # as the loop does at a boundary
            Target(folder=self.target),
            then=lambda: None,
            scaler=None,
            more=Additions(goes_on=True),
        )

    def clear(self) -> None:
        """Remove the last one, which takes long."""
        shutil.rmtree(self.target, ignore_errors=True)
        os.sync()

    def wait(self) -> None:
        """Wait until it is written."""
        getattr(self._made, "wait_for_checkpoint", lambda: None)()

    def load(self) -> None:
        """Load it."""
        self._made.load_state(str(self.target))


class _Measured:
    """Measurements of several figures each, of which each case takes its own."""

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        self._measure = measure
        self._found: list[dict[str, float]] = []
        self._taken: Counter[str] = Counter()

    def next(self, figure: str) -> float:
        """Return a figure of the first measurement of which it was not taken."""
        if self._taken[figure] == len(self._found):
            self._found.append(self._measure())
        self._taken[figure] += 1
        return self._found[self._taken[figure] - 1][figure]


@functools.cache
def _made(library: str) -> Any:
    training = _gpt2(library)
    return _Floor(training) if library == TORCH else _Saved(training)


@functools.cache
def _is_restored(library: str) -> bool | None:
    """Whether a checkpoint has the state of its boundary; the floor writes none."""
    return None if library == TORCH else _restored(_gpt2(library), _made(library))


@functools.cache
def _saves(library: str) -> _Measured:
    training, made = _gpt2(library), _made(library)

    def measure() -> dict[str, float]:
        made.clear()
        alone = _timed(lambda: training.steps(1 + _AFTER))
        first = time.perf_counter()
        training.steps(1)  # the GPU has work when the host saves, as in a training
        began = time.perf_counter()
        made.save()
        called = time.perf_counter() - began
        training.steps(_AFTER)
        torch.cuda.synchronize()
        steps = time.perf_counter() - first - alone
        made.wait()
        if library == "accelerate":
            os.sync()
        return {"call": called, "steps": steps, "durable": time.perf_counter() - began}

    return _Measured(measure)


def saved(library: str, *, of: str) -> Timed:
    """Write a checkpoint of GPT-2 and its AdamW between two steps.

    Args:
        library: the library; the floor copies the tensors to pinned memory.
        of: the measurement: seconds of the `call`, extra seconds of the `steps` that follow, or
            seconds until the checkpoint is `durable` on disk.
    """
    return Timed(lambda: _is_restored(library), lambda: _saves(library).next(of))


@functools.cache
def _loads(library: str) -> _Measured:
    load = _copies_back(_gpt2(library)) if library == TORCH else _made(library).load

    def measure() -> dict[str, float]:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = _timed(load)
        return {"time": seconds, "memory": float(torch.cuda.max_memory_allocated() - before)}

    return _Measured(measure)


def _copies_back(training: _Gpt2) -> Callable[[], None]:
    tensors = training.tensors()
    copies = [one.to("cpu").pin_memory() for one in tensors]

    def copy() -> None:
        torch._foreach_copy_(tensors, copies, non_blocking=True)

    return copy


def loaded(library: str, *, of: str) -> Timed:
    """Load a checkpoint of GPT-2 and its AdamW.

    Args:
        library: the library; the floor copies the tensors from pinned memory.
        of: the measurement: `time`, or GPU `memory` beyond what was in use before.
    """
    return Timed(lambda: _is_restored(library), lambda: _loads(library).next(of))


def _restored(training: _Gpt2, made: _Saved) -> bool:
    """Whether a checkpoint has the state of its boundary, though the training goes on."""
    before = [one.clone() for one in training.tensors()]
    made.clear()
    made.save()
    training.steps(2)
    made.wait()
    made.load()
    return all(map(torch.equal, training.tensors(), before))


def _sides(**options: Any) -> dict[str, Any]:
    names = {"theirs": "accelerate", "ours": "runtime", "floor": "torch"}
    return {column: Side(library, options) for column, library in names.items()}


_NEAR_FLOOR = Goal(kind="above floor", limit=20e-3, at=_ONE)
_FIVE_PERCENT = Goal(kind="in all", limit=75e6, at=_ONE)  # of 1.5 GB
# The cases with GPT-2 come last: their Accelerator is that of all of them.
CASES = [
    Case(
        name="gpu-step",
        theme="gpu",
        what="A step of a tiny model on a GPU",
        program=tiny,
        unit="s",
        sizes=[_ONE],
        quick=[_ONE],
        floor_is="the same loop with torch only",
        goal=Goal(kind="above floor", limit=50e-6, at=_ONE),
    ),
    Case(
        name="gpu-batches",
        theme="gpu",
        what="A step on a batch of 128 MB, from pinned memory",
        program=batches,
        unit="s",
        sizes=[{"steps": 30}],
        quick=[{"steps": 4}],
        floor=Side("torch", {"copies": False}),
        floor_is="the same steps on a batch that is on the GPU",
        goal=Goal(kind="of floor", limit=1.02, at={"steps": 30}),
    ),
    Case(
        name="gpu-gpt2",
        theme="gpu",
        what="A step of GPT-2 124M in bf16 on 8 x 1024 tokens",
        program=gpt2,
        unit="s",
        sizes=[_ONE],
        quick=[_ONE],
        floor_is="the same loop with torch only",
        goal=Goal(kind="of floor", limit=1.02, at=_ONE),
    ),
    *(
        Case(
            name=f"gpu-save-{of}",
            theme="gpu",
            what=f"Save a checkpoint of GPT-2 124M and its AdamW: {what}",
            program=saved,
            unit="s",
            sizes=[_ONE],
            quick=[_ONE],
            **_sides(of=of),
            floor_is="a copy of the tensors to pinned memory by a stream of its own",
            goal=goal,
        )
        for of, what, goal in (
            ("call", "time of the call", Goal(kind="above floor", limit=20e-3, at=_ONE)),
            (
                "steps",
                f"extra time of {_AFTER} steps",
                Goal(kind="above floor", limit=20e-3, at=_ONE),
            ),
            ("durable", "until it is on disk (Accelerate: with a sync)", None),
        )
    ),
    *(
        Case(
            name=f"gpu-load-{of}",
            theme="gpu",
            what=f"Load a checkpoint of GPT-2 124M and its AdamW: {what}",
            program=loaded,
            unit=unit,
            sizes=[_ONE],
            quick=[_ONE],
            **_sides(of=of),
            floor_is="a copy of the tensors from pinned memory",
            goal=goal,
        )
        for of, what, unit, goal in (
            ("time", "time", "s", None),
            (
                "memory",
                "GPU memory beyond the state",
                "B",
                Goal(kind="in all", limit=75e6, at=_ONE),
            ),
        )
    ),
]
