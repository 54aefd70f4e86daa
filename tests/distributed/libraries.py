"""A program that trains by transformers' Trainer and TRL's scripts, which import `accelerate`.

`python libraries.py FOLDER LIBRARY` writes what rank 0 has found as JSON: losses, metrics, and
weights. With `runtime` as the library they get it by `as_accelerate`. One process also runs two of
TRL's public scripts, from their command lines to their end.
"""

import hashlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import runtime

if sys.argv[2:] == ["runtime"]:
    runtime.as_accelerate()

import accelerate
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

WORDS = ["<pad>", "<eos>", "<unk>", *map(str, range(20))]
COMMON: dict[str, Any] = {
    "learning_rate": 1e-2,
    "use_cpu": True,
    "report_to": [],
    "logging_steps": 1,
    "disable_tqdm": True,
}


class Lines(Dataset[dict[str, torch.Tensor]]):
    """Random sequences of words."""

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(len(WORDS), (n, 8), generator=generator)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.words[index]}


def model() -> GPT2LMHeadModel:
    """A small GPT-2 with dropout, the same each time."""
    set_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS),
            n_positions=16,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word between spaces."""
    numbers = {word: number for number, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(numbers, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)  # type: ignore[no-untyped-call]


def digest(weights: dict[str, torch.Tensor]) -> str:
    """All bits of the weights."""
    found = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        found.update(name.encode() + weight.numpy().tobytes())
    return found.hexdigest()


def result(trainer: Trainer) -> dict[str, Any]:
    """The logs without times, and the weights."""
    timed = ("runtime", "per_second")
    logs = [
        {name: value for name, value in entry.items() if not name.endswith(timed)}
        for entry in trainer.state.log_history
    ]
    trained = trainer.accelerator.unwrap_model(trainer.model)
    return {"logs": logs, "weights": digest(trained.state_dict())}


def plain(folder: Path, checkpoint: str | None = None) -> dict[str, Any]:
    """Train with accumulation, evaluation and checkpoints, from the beginning or a checkpoint."""
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=3,
        **COMMON,
    )
    trainer = Trainer(
        model(),
        arguments,
        train_dataset=Lines(37, 0),
        eval_dataset=Lines(13, 1),
        compute_metrics=lambda found: {"samples": len(found.predictions)},
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return result(trainer)


def words(start: int, count: int) -> str:
    """Return a text of numbers that follow each other."""
    return " ".join(str((start + step) % 20) for step in range(count))


SCRIPTS = {  # public script of TRL -> its data
    "sft": [{"text": words(i, 6 + i % 3)} for i in range(24)],
    "dpo": [
        {"prompt": words(i, 4), "chosen": words(i + 4, 3), "rejected": words(i + 9, 3)}
        for i in range(24)
    ],
}


def script(name: str, folder: Path) -> str:
    """Run a script of TRL, and return the bits of the weights that it has saved."""
    weights, data, output = (folder / name / part for part in ("model", "data", "output"))
    model().save_pretrained(weights)
    tokenizer().save_pretrained(weights)
    data.mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in SCRIPTS[name])
    (data / "train.jsonl").write_text(rows)
    options = COMMON | {
        "model_name_or_path": weights,
        "dataset_name": data,
        "output_dir": output,
        "report_to": "none",
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    sys.argv[1:] = [f"--{option}={value}" for option, value in options.items()]
    runpy.run_module(f"trl.scripts.{name}", run_name="__main__")
    return digest(load_file(output / "model.safetensors"))


def main() -> None:
    """Train in all ways, and let rank 0 write the results."""
    folder = Path(sys.argv[1])
    found = {
        "home": accelerate.Accelerator.__module__.partition(".")[0],
        "plain": plain(folder / "plain"),
        "resumed": plain(folder / "resumed", str(folder / "plain" / "checkpoint-3")),
    }
    if accelerate.PartialState().num_processes == 1:
        found |= {name: script(name, folder) for name in SCRIPTS}
    if accelerate.PartialState().is_main_process:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
