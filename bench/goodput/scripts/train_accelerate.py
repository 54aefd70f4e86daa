"""Trains with Hugging Face Accelerate, which saves its state every so many steps.

It runs in torchrun, whose timer ends a rank that hangs, or in NVIDIA's ft_launcher, which gets a
heartbeat for each step. SIGTERM of a rank stops all ranks after the same step, with a checkpoint.
"""

import os

from bench.goodput.ledger import Kind, Ledger

LEDGER = Ledger.begun(os.environ, int(os.environ["RANK"]))

import shutil  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from datetime import timedelta  # noqa: E402
from typing import Any  # noqa: E402

from accelerate import Accelerator, skip_first_batches  # noqa: E402
from accelerate.utils import (  # noqa: E402
    DataLoaderConfiguration,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)

from bench.goodput.scripts.guards import guard  # noqa: E402
from bench.goodput.training import SEED, Parts, build  # noqa: E402
from bench.goodput.workloads import Task  # noqa: E402

IS_STATEFUL = "GOODPUT_STATEFUL" in os.environ  # torchdata's loader, which knows its position
_PATIENCE = timedelta(seconds=60)  # of a collective, which waits while rank 0 saves
_STOPPED = 99


class Place:
    """How far the training is; part of the checkpoint."""

    def __init__(self) -> None:
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        """Return the step."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take the step."""
        self.step = state["step"]


def main() -> None:
    """Train."""
    LEDGER.mark(Kind.IMPORTED)
    task = Task.from_env()
    accelerator = Accelerator(
        cpu=True,
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo", timeout=_PATIENCE)],
        dataloader_config=DataLoaderConfiguration(
            use_stateful_dataloader=IS_STATEFUL, use_seedable_sampler=True, data_seed=SEED
        ),
        project_config=ProjectConfiguration(
            project_dir=str(task.folder), automatic_checkpoint_naming=True, total_limit=3
        ),
    )
    LEDGER.mark(Kind.JOINED)
    parts, place = build(task.workload), Place()
    made = accelerator.prepare(parts.model, parts.optimizer, parts.loader(shuffle=True))
    accelerator.register_for_checkpointing(place)
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())
    resume(accelerator, task)
    LEDGER.mark(Kind.LOADED)
    train(accelerator, parts, made, place, task.every)
    LEDGER.mark(Kind.DONE, parts.digest)
    accelerator.end_training()


def resume(accelerator: Any, task: Task) -> None:
    """Load the newest checkpoint that is whole; save_state is not atomic."""
    folders = task.folder.glob("checkpoints/checkpoint_*")
    numbers = {int(one.name.rpartition("_")[2]): one for one in folders}
    for number in sorted(numbers, reverse=True):
        try:
            accelerator.load_state(str(numbers[number]))
        except Exception as error:  # noqa: BLE001  # whatever half a file makes
            sys.stderr.write(f"{numbers[number]} is damaged: {error!r}\n")
            if accelerator.is_main_process:
                shutil.rmtree(numbers[number], ignore_errors=True)
        else:
            accelerator.project_configuration.iteration = number + 1
            return


def train(accelerator: Any, parts: Parts, made: Any, place: Place, every: int) -> None:
    """Train from a place to the end."""
    model, optimizer, loader = made
    watched = guard()
    first, skipped = divmod(place.step, len(loader))
    for epoch in range(first, parts.workload.work.epochs):
        loader.set_epoch(epoch)
        is_cut = epoch == first and skipped > 0 and not IS_STATEFUL
        for inputs, ids in skip_first_batches(loader, skipped) if is_cut else loader:
            watched.begin()
            accelerator.backward(parts.loss(model, inputs))
            LEDGER.step(place.step, ids.tolist())
            optimizer.step()
            optimizer.zero_grad()
            place.step += 1
            is_stopped = accelerator.check_trigger()
            watched.end()
            if is_stopped or place.step % every == 0:
                watched.rest()
                accelerator.save_state()
            if is_stopped:
                accelerator.wait_for_everyone()
                os._exit(_STOPPED)
    watched.rest()


if __name__ == "__main__":
    main()
