"""Trains with this runtime's fault-tolerant loop."""

import os

from bench.goodput.ledger import Kind, Ledger

LEDGER = Ledger.begun(os.environ, int(os.environ["RANK"]))

from bench.goodput.training import SEED, build  # noqa: E402
from bench.goodput.workloads import Task  # noqa: E402
from runtime import Accelerator  # noqa: E402
from runtime.utils import DataLoaderConfiguration  # noqa: E402


def main() -> None:
    """Train."""
    LEDGER.mark(Kind.IMPORTED)
    order = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=SEED)
    accelerator = Accelerator(cpu=True, dataloader_config=order)
    LEDGER.mark(Kind.JOINED)
    parts = build(Task.from_env().workload)
    model, optimizer, loader = accelerator.prepare(
        parts.model, parts.optimizer, parts.loader(shuffle=True)
    )
    for _ in accelerator.epochs(parts.workload.work.epochs):
        for inputs, ids in loader:
            LEDGER.mark_once(Kind.LOADED)
            accelerator.backward(parts.loss(model, inputs))
            LEDGER.step(accelerator.completed_steps, ids.tolist())
            optimizer.step()
            optimizer.zero_grad()
    LEDGER.mark(Kind.DONE, parts.digest)


if __name__ == "__main__":
    main()
