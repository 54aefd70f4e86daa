"""Trains with dlrover's checkpoints in memory, and on disk every hundred steps."""

import os

from bench.goodput.ledger import Kind, Ledger

LEDGER = Ledger.begun(os.environ, int(os.environ["RANK"]))

from datetime import timedelta  # noqa: E402
from typing import Any  # noqa: E402

import torch.distributed as dist  # noqa: E402
from dlrover.trainer.torch.elastic.sampler import ElasticDistributedSampler  # noqa: E402
from dlrover.trainer.torch.flash_checkpoint.ddp import (  # noqa: E402
    DdpCheckpointer,
    StorageType,
)
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from bench.goodput.training import SEED, Parts, build  # noqa: E402
from bench.goodput.workloads import COLLECTIVE_LIMIT, Task  # noqa: E402

DISK = 100  # steps between two checkpoints on disk
_PATIENCE = timedelta(seconds=COLLECTIVE_LIMIT)  # what ends a rank that hangs


def main() -> None:
    """Train."""
    LEDGER.mark(Kind.IMPORTED)
    dist.init_process_group("gloo", timeout=_PATIENCE)
    LEDGER.mark(Kind.JOINED)
    task = Task.from_env()
    parts = build(task.workload)
    sampler = ElasticDistributedSampler(
        parts.data, num_replicas=dist.get_world_size(), rank=dist.get_rank(), seed=SEED
    )
    folder = task.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    checkpointer = DdpCheckpointer(str(folder), save_timeout=60)
    step = load(parts, sampler, checkpointer)
    LEDGER.mark(Kind.LOADED)
    train(parts, sampler, checkpointer, step, task.every)
    LEDGER.mark(Kind.DONE, parts.digest)
    dist.barrier()
    dist.destroy_process_group()


def load(parts: Parts, sampler: Any, checkpointer: Any) -> int:
    """Load the last checkpoint, and return its step; 0 without one."""
    found = checkpointer.load_checkpoint() or {}
    found = found.get("model_states", found)
    if not found:
        return 0
    parts.model.load_state_dict(found["model"])
    parts.optimizer.load_state_dict(found["optimizer"])
    work, step = parts.workload.work, int(found["step"])
    epoch, done = divmod(step * work.ranks * work.batch, work.samples)
    sampler.load_state_dict({"completed_num": done, "epoch": epoch})
    return step


def train(parts: Parts, sampler: Any, checkpointer: Any, step: int, every: int) -> None:
    """Train from a step to the end."""
    model, work = DistributedDataParallel(parts.model), parts.workload.work
    loader = parts.loader(sampler=sampler)
    while step < work.steps:
        sampler.set_epoch(step * work.epochs // work.steps)
        for inputs, ids in loader:
            loss: Any = parts.loss(model, inputs)
            loss.backward()
            LEDGER.step(step, ids.tolist())
            parts.optimizer.step()
            parts.optimizer.zero_grad()
            step += 1
            if step % every == 0:
                model_state, optimizer = parts.model.state_dict(), parts.optimizer.state_dict()
                state = {"model": model_state, "optimizer": optimizer, "step": step}
                tier = StorageType.MEMORY if step % DISK else StorageType.DISK
                checkpointer.save_checkpoint(step, state, storage_type=tier)


if __name__ == "__main__":
    main()
