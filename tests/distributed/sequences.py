"""Trainings of one model of attention in layouts whose processes share sequences.

`python sequences.py FOLDER` runs them; see `by_layout`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from runtime import (
    Accelerator,
    DataLoaderConfiguration,
    FullyShardedDataParallelPlugin,
    ParallelismConfig,
)
from runtime.utils import TorchTensorParallelConfig
from tests.distributed import resumable
from tests.distributed.by_layout import LAST, ONE, Case, Cases, Layouts, raised
from tests.distributed.resumable import small

LAYOUTS: Layouts = {
    ONE: (1, {}),
    "cp 2": (2, {"cp_size": 2}),
    "cp 4": (4, {"cp_size": 4}),
    "dp 2 x cp 2": (4, {"dp_shard_size": 2, "cp_size": 2}),
    "cp 2 x tp 2": (4, {"cp_size": 2, "tp_size": 2}),
}
TOKENS, LENGTH = 11, 16  # kinds of tokens; positions of a sequence
SIZE, BATCH = 16, 4  # samples; those of a global batch
SAVED, STEPS = 3, 6  # steps before a checkpoint, in the middle of an epoch; and in all
HEADS, WIDTH = 2, 8
IGNORED = -100  # a label that does not count
PLAN = {"blocks.*.qkv": "colwise", "blocks.*.out": "rowwise"}


class Texts(Dataset[torch.Tensor]):
    """Sequences of tokens, each with one more than a model reads."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.tokens = torch.randint(TOKENS, (SIZE, LENGTH + 1), generator=generator)

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.tokens[index]


class Block(nn.Module):
    """Attention of several heads; with tensor parallelism each process has some of them."""

    def __init__(self, dropout: float, is_causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        # No bias: that of keys changes nothing, so that its gradient is a rounding error.
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.dropout, self.is_causal = dropout, is_causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.qkv(self.norm(x)).unflatten(-1, (-1, 3, WIDTH // HEADS)).transpose(1, 2)
        query, key, value = heads.unbind(3)
        seen = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.is_causal,
        )
        part: torch.Tensor = self.out(seen.transpose(1, 2).flatten(-2))
        return x + part


class Net(nn.Module):
    """A small language model."""

    _no_split_modules = ("Block",)

    def __init__(self, dropout: float = 0.0, is_causal: bool = True) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout, is_causal) for _ in range(2))
        self.last = nn.Linear(WIDTH, TOKENS)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x)
        found: torch.Tensor = self.last(x)
        return found


def accelerator_of(layout: str, **options: Any) -> Accelerator:
    """The Accelerator of a layout, in a world of its size."""
    size, sizes = LAYOUTS[layout]
    handler = TorchTensorParallelConfig(plan=options.pop("plan", PLAN))
    plugin = {"auto_wrap_policy": "transformer_based_wrap"} | options.pop("plugin", {})
    return Accelerator(
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True),
        fsdp_plugin=FullyShardedDataParallelPlugin(**plugin) if size > 1 else None,
        parallelism_config=ParallelismConfig(
            tp_handler=handler if "tp_size" in sizes else None, **sizes
        ),
        **options,
    )


class Training(resumable.Training):
    """One of a small language model."""

    all_steps, saved_after = STEPS, SAVED

    def __init__(
        self,
        layout: str,
        *,
        dropout: float = 0.0,
        is_causal: bool = True,
        accumulate: int = 1,
        hidden: int = 0,
        **options: Any,
    ) -> None:
        self.hidden = hidden
        accelerator = accelerator_of(layout, gradient_accumulation_steps=accumulate, **options)
        torch.manual_seed(11)
        model = Net(dropout, is_causal)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        loader = DataLoader(Texts(), batch_size=BATCH, shuffle=True)
        super().__init__(accelerator, model, optimizer, loader)

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch; inputs and targets are slices of one tensor."""
        inputs, targets = batch[:, :-1], batch[:, 1:].clone()
        targets[:, : self.hidden] = IGNORED  # of which some processes have more than others
        positions = torch.arange(LENGTH).expand(len(batch), -1)
        buffers = [inputs, targets, positions]
        accelerator = self.accelerator
        with (
            accelerator.accumulate(self.model),
            accelerator.maybe_context_parallel(buffers=buffers, buffer_seq_dims=[1, 1, -1]),
        ):
            assert inputs.shape[1] == LENGTH // sharing(accelerator)
            outputs = self.model(inputs, positions)
            loss = functional.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(), reduction="sum"
            )
            count = accelerator.reduce((targets != IGNORED).sum())
            loss = loss / count * accelerator.num_processes
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(self.model.parameters(), 0.5)
                self.norms.append(float(norm))
            self.optimizer.step()
            self.optimizer.zero_grad()
        assert inputs.shape[1] == LENGTH
        self.losses.append(float(accelerator.reduce(loss.detach(), "mean")))

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"evaluated": self.evaluated()}

    def evaluated(self) -> torch.Tensor:
        """What the model makes of whole sequences, which it gets outside of the context."""
        self.model.eval()
        tokens = Texts().tokens[:2, :-1]
        with torch.no_grad():
            found: torch.Tensor = self.model(tokens, torch.arange(LENGTH))
        self.model.train()
        return found


def sharing(accelerator: Accelerator) -> int:
    """The number of processes that share the sequences."""
    layout = accelerator.parallelism_config
    return int(getattr(layout, "cp_size", 1) or 1)


def train(layout: str, _: Path, **how: Any) -> Any:
    """A training from its beginning."""
    training = Training(layout, **how)
    training.steps(STEPS)
    return training.facts()


def saved(layout: str, folder: Path) -> Any:
    """A training that writes a checkpoint on its way."""
    training = Training(layout)
    training.steps(STEPS, save=folder / layout)
    states = sorted(one.name for one in (folder / layout).glob("random_states*"))
    return training.facts() | {"states": states, "rank": rank_of(training.accelerator)}


def rank_of(accelerator: Accelerator) -> list[int]:
    """The places in the dimensions of the layout."""
    return [
        *(accelerator.data_parallel_shard_rank, accelerator.context_parallel_rank),
        accelerator.tensor_parallel_rank,
    ]


def loaded(layout: str, folder: Path) -> Any:
    return resumable.loaded(lambda: Training(layout), folder, LAYOUTS)


def resumed(layout: str, folder: Path) -> Any:
    return resumable.resumed(lambda: Training(layout, dropout=0.5), folder / f"dropout, {layout}")


def theirs(
    layout: str, _: Path, *, kind: str = "Llama", recomputed: dict[str, bool] | None = None
) -> Any:
    """A model of transformers, whose attention gets a mask that says that a sequence is padded."""
    accelerator = accelerator_of(layout, plan=None)
    torch.manual_seed(4)
    model = small(kind)
    if recomputed is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=recomputed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    ids = Texts().tokens[:4, :LENGTH].clone()
    found = []
    for _step in range(3):
        with accelerator.split_between_processes(inputs_of(ids)) as batch:
            pass
        with accelerator.maybe_context_parallel([*batch.values()], [1] * len(batch)):
            count = accelerator.reduce((batch["shift_labels"] != IGNORED).sum())
            each = accelerator.num_processes
            loss = model(**batch, num_items_in_batch=count).loss * each
            accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found += [float(accelerator.reduce(loss.detach(), "mean")), float(norm)]
    return found


def inputs_of(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a causal model of transformers needs in context parallelism; a sequence is padded."""
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[0, -3:], mask[0, -3:] = IGNORED, 0
    return {
        "input_ids": ids.clone(),
        "labels": labels,
        "shift_labels": functional.pad(labels, (0, 1), value=IGNORED)[:, 1:].contiguous(),
        "position_ids": torch.arange(LENGTH).expand(len(ids), -1),
        "attention_mask": mask,
    }


class Deaf(nn.Module):
    """Has no attention that could be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.first(x)
        found: torch.Tensor = (query @ query.transpose(1, 2)).softmax(-1) @ x
        return found


class Masked(Deaf):
    """Attends with a mask."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
        found: torch.Tensor = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        return found + super().forward(x)


def mask_without(first: int, end: int) -> torch.Tensor:
    """The mask of two sequences, in which some positions of the first one do not count."""
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, first:end] = 0
    return mask


def refused(layout: str, _: Path) -> Any:
    """What cannot be computed in parts of sequences, by name."""
    accelerator = accelerator_of(layout, plugin={"auto_wrap_policy": "no_wrap"})
    divided = accelerator.maybe_context_parallel
    x, short = torch.ones(2, LENGTH, WIDTH), torch.ones(2, LENGTH - 2, WIDTH)

    def run(model: nn.Module, *args: torch.Tensor, **kwargs: torch.Tensor) -> None:
        tensors = [*args, *kwargs.values()]
        with divided(tensors, [1] * len(tensors)):
            model(*args, **kwargs)

    def twice() -> None:
        with divided([x.clone()], [1]), divided([x.clone()], [1]):
            pass

    def late() -> None:
        model = accelerator.prepare(Net())
        inputs, positions = Texts().tokens[:2, :-1], torch.arange(LENGTH).expand(2, -1)
        with divided([inputs, positions], [1, 1]):
            loss = model(inputs, positions).sum()
        accelerator.backward(loss)

    def asked(
        *without: str, of: tuple[str, str] = ("Llama", "ForCausalLM"), **others: torch.Tensor
    ) -> Callable[[], None]:
        batch = inputs_of(Texts().tokens[:2, :LENGTH]) | others
        batch = {name: one for name, one in batch.items() if name not in without}
        return lambda: run(accelerator.prepare(small(*of)), **batch)

    def undivided() -> None:
        model = accelerator.prepare(Net())
        with divided([x.clone()], [1]):
            model(Texts().tokens[:2, :-1], torch.arange(LENGTH))

    packed = torch.arange(LENGTH).remainder(LENGTH // 2).expand(2, -1)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True)
    cases: dict[str, Callable[[], Any]] = {
        "attention by hand": lambda: run(accelerator.prepare(Deaf()), x.clone()),
        "a mask": lambda: run(accelerator.prepare(Masked()), x.clone()),
        "torch's layer": lambda: run(accelerator.prepare(layer), x.clone()),
        "a length": lambda: run(Deaf(), short.clone()),
        "lengths": lambda: run(Deaf(), x.clone(), short.clone()),
        "gradients": lambda: run(Deaf(), x.clone().requires_grad_()),
        "contexts in contexts": twice,
        "backward behind the context": late,
        "no positions": asked("position_ids"),
        "packed sequences": asked(position_ids=packed),
        "labels that are not shifted": asked("shift_labels"),
        "labels of GPT-2": asked("shift_labels", of=("GPT2", "LMHeadModel")),
        "padding at the left": asked(attention_mask=mask_without(0, 2)),
        "a hole between pieces": asked(
            attention_mask=mask_without(LENGTH // 4, 3 * LENGTH // 4)  # the part of one process
        ),
        "positions that begin at 2": asked("shift_labels", of=("Roberta", "ForMaskedLM")),
        "a rotation by length": lambda: accelerator.prepare(small(rope_parameters=rope)),
        "some logits": asked("labels", logits_to_keep=torch.zeros(1, LENGTH, dtype=torch.long)),
        "no position_ids": asked("position_ids", "shift_labels", of=("Bart", "ForCausalLM")),
        "a class of a sequence": asked(
            "labels", "shift_labels", of=("Llama", "ForSequenceClassification")
        ),
        "a window": lambda: accelerator.prepare(small("Mistral", sliding_window=4)),
        "eager attention": lambda: accelerator.prepare(small(attn_implementation="eager")),
        "no buffers": lambda: divided().__enter__(),
        "an input that is not divided": undivided,
        "a compiled model": lambda: accelerator.prepare(torch.compile(Net())),
    }
    return {name: raised(case) for name, case in cases.items()}


def measured(layout: str, _: Path) -> Any:
    """What metrics gather of 6 samples in batches of 4: of parts, and of whole sequences."""
    accelerator = accelerator_of(layout)
    loader = DataLoader(Subset(Texts(), range(6)), batch_size=BATCH)
    model, loader = accelerator.prepare(Net(), loader)
    found: dict[str, list[Any]] = {"within": [], "behind": [], "objects": [], "whole": []}
    for batch in loader:
        inputs, positions = batch[:, :-1], torch.arange(LENGTH).expand(len(batch), -1)
        with accelerator.maybe_context_parallel([inputs, positions], [1, 1]), torch.no_grad():
            model(inputs, positions)
            own = inputs.sum(1)
            found["within"] += accelerator.gather_for_metrics(own).tolist()
        found["behind"] += accelerator.gather_for_metrics(own).tolist()
        found["objects"] += accelerator.gather_for_metrics(own.tolist())
        with torch.no_grad():
            model(inputs, positions)
        found["whole"] += accelerator.gather_for_metrics(inputs.sum(1)).tolist()
    return found


DIVIDED = tuple(name for name in LAYOUTS if name != ONE)
AGAIN = {"activation_checkpointing": True}
CASES: dict[str, Case] = {
    "saved": (saved, {}, tuple(LAYOUTS)),
    "accumulated": (train, {"accumulate": 2}, (ONE, "cp 2", "dp 2 x cp 2")),
    "both ways": (train, {"is_causal": False}, (ONE, "cp 2")),
    "recomputed": (train, {"plugin": AGAIN}, ("cp 2",)),
    "bf16": (train, {"mixed_precision": "bf16"}, (ONE, "cp 2")),
    "resumed": (resumed, {}, DIVIDED),
    "few labels": (train, {"hidden": 3 * LENGTH // 4}, (ONE, "cp 2", "cp 2 x tp 2")),
    "metrics": (measured, {}, (ONE, *DIVIDED)),
    "llama": (theirs, {}, (ONE, *DIVIDED)),
    "phi3": (theirs, {"kind": "Phi3"}, (ONE, "cp 2")),
    **{
        f"llama, recomputed {how}": (theirs, {"recomputed": {"use_reentrant": flag}}, ("cp 2",))
        for how, flag in (("by a function", True), ("by hooks", False))
    },
    "refused": (refused, {}, ("cp 2",)),
    "loaded": (loaded, {}, DIVIDED),
    LAST: (loaded, {}, (ONE,)),
}
EXPECTED = (  # warnings
    *("weights or buffers differ between ranks", "processes that train on the same batches"),
    *(".* was saved by fewer processes", "FSDP2-wrapped module .* returned a view"),
    "`gradient_checkpointing_enable` is deprecated",
)
SEQUENCES = Cases(LAYOUTS, CASES, EXPECTED)

if __name__ == "__main__":
    SEQUENCES.run(
        Path(sys.argv[1]),
        *sys.argv[2:],
        imports=("runtime.checkpoint.sharded", "transformers.models.llama.modeling_llama"),
    )
