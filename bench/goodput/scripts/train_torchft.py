"""Trains with torchft: one replica, which retries a batch that was not committed.

The gradients are reduced by hand: its wrapper fails when the transport's time is over. A checkpoint
on disk is for the case that no replica is left; the position in the data is saved after each step.
"""

import os

from bench.goodput.ledger import Kind, Ledger

REPLICA = int(os.environ["REPLICA_GROUP_ID"])
LEDGER = Ledger.begun(os.environ, REPLICA)

import signal  # noqa: E402
from datetime import timedelta  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402
from torchft import DistributedSampler, Manager, Optimizer, ProcessGroupGloo  # noqa: E402

from bench.goodput.scripts.guards import guard  # noqa: E402
from bench.goodput.training import SEED, Parts, build  # noqa: E402
from bench.goodput.workloads import Task  # noqa: E402

_STOPPED = 99
_SHORT, _LONG = timedelta(seconds=2), timedelta(seconds=10)


def main() -> None:
    """Train."""
    LEDGER.mark(Kind.IMPORTED)
    task = Task.from_env()
    parts = build(task.workload)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    manager = Manager(
        pg=ProcessGroupGloo(timeout=_SHORT),
        min_replica_size=1,
        state_dict=lambda: state_of(parts),
        load_state_dict=lambda state: load(parts, state),
        replica_id=f"replica-{REPLICA}",
        timeout=_SHORT,
        quorum_timeout=_LONG,
        connect_timeout=_LONG,
        quorum_retries=3,
    )
    LEDGER.mark(Kind.JOINED)
    Replica(task, parts, manager, asked).run()
    LEDGER.mark(Kind.DONE, parts.digest)
    manager.shutdown(wait=False)
    os._exit(0)


def state_of(parts: Parts) -> dict[str, Any]:
    """Return what a replica gets from another one."""
    return {"model": parts.model.state_dict(), "optimizer": parts.optimizer.state_dict()}


def load(parts: Parts, state: dict[str, Any]) -> None:
    """Take the state of another replica."""
    parts.model.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])


def write(file: Path, state: Any) -> None:
    """Write a file, and rename it when it is whole."""
    part = file.with_suffix(".part")
    torch.save(state, part)
    part.replace(file)


class Replica:
    """The training of one replica, which reads its own part of each epoch."""

    def __init__(self, task: Task, parts: Parts, manager: Any, asked: list[int]) -> None:
        """Begin where the files of this replica say."""
        work = task.workload.work
        self._task, self._parts, self._manager, self._asked = task, parts, manager, asked
        self._optimizer = Optimizer(manager, parts.optimizer)
        self._sampler = DistributedSampler(
            parts.data,
            replica_rank=REPLICA,
            num_replica_groups=work.ranks,
            group_rank=0,
            num_replicas=1,
            shuffle=True,
            seed=SEED,
        )
        self._position = task.folder / f"position-{REPLICA}.pt"
        self._disk = task.folder / f"checkpoint-{REPLICA}.pt"
        self._epoch = 0
        self._watched = guard()
        self._loader = self._new_loader()
        if self._disk.exists():
            found = torch.load(self._disk, weights_only=False)
            load(parts, found)
            manager.load_state_dict(found["manager"])
        if self._position.exists():
            found = torch.load(self._position, weights_only=False)
            self._epoch = found["epoch"]
            self._sampler.set_epoch(self._epoch)
            self._loader.load_state_dict(found["loader"])

    def _new_loader(self) -> Any:
        batch = self._task.workload.work.batch
        return StatefulDataLoader(self._parts.data, batch, sampler=self._sampler)

    def run(self) -> None:
        """Train to the end of this replica's part of the last epoch."""
        LEDGER.mark(Kind.LOADED)
        while self._epoch < self._task.workload.work.epochs:
            self._sampler.set_epoch(self._epoch)
            for inputs, ids in self._loader:
                is_committed = False
                while not is_committed:
                    self._watched.begin()
                    is_committed = self._step(inputs, ids)
                    self._watched.end()
                self._save()
            self._epoch, self._loader = self._epoch + 1, self._new_loader()
            self._save()
        self._watched.rest()

    def _step(self, inputs: torch.Tensor, ids: torch.Tensor) -> bool:
        """Make a step, and return whether its batch is in the weights of all replicas."""
        before = self._manager.current_step()
        self._optimizer.zero_grad()
        loss: Any = self._parts.loss(self._parts.model, inputs)
        loss.backward()
        self._reduce()
        self._optimizer.step()
        is_new = self._manager.current_step() > before
        if is_new and self._manager.is_participating():
            LEDGER.step(self._manager.current_step() - 1, ids.tolist())
            return True
        return False

    def _reduce(self) -> None:
        """Average the gradients of all replicas, in one buffer."""
        found = [one.grad for one in self._parts.model.parameters() if one.grad is not None]
        flat = torch.cat([one.reshape(-1) for one in found])
        self._manager.allreduce(flat).wait()
        begin = 0
        for one in found:
            one.copy_(flat.narrow(0, begin, one.numel()).view_as(one))
            begin += one.numel()

    def _save(self) -> None:
        """Save the position, and sometimes the state; leave if this replica was asked to."""
        write(self._position, {"epoch": self._epoch, "loader": self._loader.state_dict()})
        if self._manager.current_step() % self._task.every == 0:
            self._watched.rest()
            state = {**state_of(self._parts), "manager": self._manager.state_dict()}
            write(self._disk, state)
        if self._asked:
            self._manager.shutdown(wait=False)
            os._exit(_STOPPED)


if __name__ == "__main__":
    main()
