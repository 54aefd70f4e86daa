"""Trains with the restart within the process of NVIDIA's resiliency extension.

Its wrapper calls the function again, with other ranks, when a rank has ended or hangs.
"""

import os

from bench.goodput.ledger import Kind, Ledger

LEDGER = Ledger.begun(os.environ, int(os.environ["RANK"]))

from datetime import timedelta  # noqa: E402
from typing import Any  # noqa: E402

import nvidia_resiliency_ext.inprocess as nvrx  # noqa: E402
import torch  # noqa: E402
import torch._dynamo  # noqa: E402  # imported later, a restart could interrupt it for good
import torch.distributed as dist  # noqa: E402
from torch._C._distributed_c10d import PrefixStore, TCPStore  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from bench.goodput.training import SEED, Parts, build  # noqa: E402
from bench.goodput.workloads import RANKS, Task  # noqa: E402

PORT, STORE = int(os.environ["MASTER_PORT"]), int(os.environ["GOODPUT_STORE"])
_OFTEN = timedelta(seconds=0.1)
_SILENCE = timedelta(seconds=Task.from_env().workload.silence)


class Beside(nvrx.store.TCPStore):  # type: ignore[misc]  # the package has no types
    """The store of another process: that in rank 0 would end with it."""

    TCP_STORE_HOST_RANK = -1

    @property
    def critical_ranks(self) -> tuple[int, ...]:
        """No rank is needed for the store."""
        return ()


@nvrx.Wrapper(  # type: ignore[untyped-decorator]  # the package has no types
    store_factory=Beside,
    store_kwargs={"port": STORE, "wait_for_workers": False},
    rank_assignment=nvrx.Compose(
        nvrx.rank_assignment.MaxActiveWorldSize(RANKS), nvrx.rank_assignment.ShiftRanks()
    ),
    monitor_thread_interval=_OFTEN,
    monitor_process_interval=_OFTEN,
    heartbeat_interval=timedelta(seconds=0.25),
    progress_watchdog_interval=timedelta(seconds=0.25),
    soft_timeout=_SILENCE,
    hard_timeout=2 * _SILENCE,
    heartbeat_timeout=_SILENCE,
    barrier_timeout=timedelta(seconds=60),
    completion_timeout=timedelta(seconds=30),
    last_call_wait=timedelta(seconds=0.2),
    termination_grace_time=timedelta(seconds=0.5),
)
def main(call_wrapper: nvrx.CallWrapper | None = None) -> None:
    """Train, from the last checkpoint on."""
    assert call_wrapper is not None  # noqa: S101  # the wrapper passes it
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    LEDGER.rank = rank
    LEDGER.mark(Kind.IMPORTED)
    prefix = PrefixStore(
        f"training-{call_wrapper.iteration}", TCPStore("127.0.0.1", STORE, is_master=False)
    )
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", store=prefix, rank=rank, world_size=world, timeout=limit)
    LEDGER.mark(Kind.JOINED)
    task = Task.from_env()
    parts = build(task.workload)
    step = load(parts, task)
    LEDGER.mark(Kind.LOADED)
    train(parts, task, step, call_wrapper)
    LEDGER.mark(Kind.DONE, parts.digest)


def load(parts: Parts, task: Task) -> int:
    """Load the last checkpoint, and return its step; 0 without one."""
    file = task.folder / "checkpoint.pt"
    if not file.exists():
        return 0
    found = torch.load(file)
    parts.model.load_state_dict(found["model"])
    parts.optimizer.load_state_dict(found["optimizer"])
    return int(found["step"])


def save(parts: Parts, task: Task, step: int) -> None:
    """Write a checkpoint, and rename it when it is whole."""
    file = task.folder / "checkpoint.pt"
    state = {"model": parts.model.state_dict(), "optimizer": parts.optimizer.state_dict()}
    torch.save({**state, "step": step}, file.with_suffix(".part"))
    file.with_suffix(".part").replace(file)


def train(parts: Parts, task: Task, step: int, call_wrapper: Any) -> None:
    """Train from a step to the end."""
    model = DistributedDataParallel(parts.model)
    rank, world, work = dist.get_rank(), dist.get_world_size(), task.workload.work
    size = work.ranks * work.batch
    while step < work.steps:
        epoch, first = divmod(step, work.samples // size)
        order = torch.randperm(work.samples, generator=torch.Generator().manual_seed(SEED + epoch))
        own = order.view(-1, world, size // world)[first:, rank]
        for inputs, ids in parts.batches(own.tolist()):
            loss: Any = parts.loss(model, inputs)
            loss.backward()
            LEDGER.step(step, ids.tolist())
            parts.optimizer.step()
            parts.optimizer.zero_grad()
            step += 1
            call_wrapper.ping()
            if step % task.every == 0:
                dist.barrier()
                if rank == 0:
                    with call_wrapper.atomic():
                        save(parts, task, step)
                dist.barrier()


if __name__ == "__main__":
    main()
