"""A program in which transformers' Trainer trains with context parallelism, by the alias.

`python trainer.py FOLDER` shares sequences among all processes of its world; rank 0 writes the
losses and norms of each step, and those of the evaluations, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import runtime

runtime.as_accelerate()

import accelerate
import torch
from transformers import Trainer, TrainingArguments

from tests.distributed.resumable import small
from tests.distributed.sequences import IGNORED, LENGTH

SHARDED = {
    "fsdp_version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
}
LOGGED = ("loss", "grad_norm", "eval_loss")


def texts() -> list[dict[str, torch.Tensor]]:
    """Sequences of which only the end has labels that count, so that one part may have none."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 20, (16, LENGTH), generator=generator)
    is_prompt = torch.arange(LENGTH) < 3 * LENGTH // 4
    mask = torch.ones(LENGTH, dtype=torch.long)
    return [
        {"input_ids": row, "labels": row.masked_fill(is_prompt, IGNORED), "attention_mask": mask}
        for row in tokens
    ]


def options(size: int) -> dict[str, Any]:
    """The arguments of a world of several processes."""
    if size == 1:
        return {}
    layout = accelerate.ParallelismConfig(cp_size=size)
    return {"parallelism_config": layout, "fsdp": True, "fsdp_config": SHARDED}


def main() -> None:
    """Train, and evaluate, and let rank 0 write the logs."""
    folder, world = Path(sys.argv[1]), accelerate.PartialState(cpu=True)
    torch.manual_seed(0)
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        max_steps=6,
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="no",
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        **options(world.num_processes),
    )
    rows = texts()
    trainer = Trainer(small(), arguments, train_dataset=rows, eval_dataset=rows[:10])
    trainer.train()
    if world.is_main_process:
        logs = trainer.state.log_history
        found = {name: [one[name] for one in logs if name in one] for name in LOGGED}
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
