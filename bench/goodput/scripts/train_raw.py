"""The floor: a plain loop with DistributedDataParallel, without checkpoints."""

import os

from bench.goodput.ledger import Kind, Ledger

LEDGER = Ledger.begun(os.environ, int(os.environ["RANK"]))

from typing import Any  # noqa: E402

import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from torch.utils.data import DistributedSampler  # noqa: E402

from bench.goodput.training import SEED, build  # noqa: E402
from bench.goodput.workloads import Task  # noqa: E402


def main() -> None:
    """Train."""
    LEDGER.mark(Kind.IMPORTED)
    dist.init_process_group("gloo")
    LEDGER.mark(Kind.JOINED)
    parts = build(Task.from_env().workload)
    model, step = DistributedDataParallel(parts.model), 0
    sampler: Any = DistributedSampler(parts.data, seed=SEED)
    loader = parts.loader(sampler=sampler)
    LEDGER.mark(Kind.LOADED)
    for epoch in range(parts.workload.work.epochs):
        sampler.set_epoch(epoch)
        for inputs, ids in loader:
            loss: Any = parts.loss(model, inputs)
            loss.backward()
            LEDGER.step(step, ids.tolist())
            parts.optimizer.step()
            parts.optimizer.zero_grad()
            step += 1
    LEDGER.mark(Kind.DONE, parts.digest)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
