"""Which worker of a data loader reads what of an iterable dataset, and how far each of them is.

A dataset that does not know of workers is one stream, which each worker goes through: worker i of n
takes the pieces i, i+n, ... A dataset that divides itself among them is as many streams. Torch
takes batches from its workers in turn, so either way the order is the same whenever it is read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch.utils.data import get_worker_info
from torch.utils.data._utils import worker as torch_worker
from torch.utils.data._utils.pin_memory import pin_memory


@dataclass(frozen=True, slots=True)
class Given:
    """A batch, and what only the process that has read it can tell of it."""

    content: Any
    real: int  # items of all ranks in the last step, if it was filled; else 0
    state: Any  # the dataset's own state behind this batch; None if it keeps none
    worker: int | None  # whose stream it is from; None: there is one stream for all

    def pin_memory(self, device: Any = None) -> "Given":
        """The same in pinned memory; torch asks for it by this name."""
        pinned = pin_memory(self.content, device)  # type: ignore[no-untyped-call]  # torch has not typed it
        return Given(pinned, self.real, self.state, self.worker)


@dataclass(slots=True)
class Progress:
    """How far a dataset was read, behind the batch that was given last."""

    state: Any = None  # the dataset's own, where there is one stream
    workers: int = 0  # that the dataset divides itself among; 0: there is one stream
    following: int = 0  # which of them gives the next batch
    streams: dict[int, tuple[int, Any]] = field(default_factory=dict)  # batches it gave, its state

    @classmethod
    def of(cls, state_dict: dict[str, Any] | None) -> "Progress":
        """As `state_dict` has said it; without one, the beginning."""
        progress = cls(**(state_dict or {}))
        progress.streams = dict(progress.streams)
        return progress

    def note(self, batch: Any, workers: int) -> Any:
        """Count a batch as given, and return what the script is to see of it."""
        if not isinstance(batch, Given):
            return batch
        if batch.worker is None:
            self.state = batch.state
        else:
            before = self.streams.get(batch.worker, (0, None))[0]
            self.streams[batch.worker] = (before + 1, batch.state)
            self.workers = workers
            self.following = (batch.worker + 1) % workers
        return batch.content

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "state": self.state,
            "workers": self.workers,
            "following": self.following,
            "streams": dict(self.streams),
        }


def must_be_as_before(before: int, workers: int) -> None:
    """Check that a dataset which divides itself can go on.

    Args:
        before: workers that it was divided among; 0: it was read as one stream.
        workers: of the loader that is to go on.

    Raises:
        ValueError: they differ.
    """
    if before != workers:
        sentence = (
            f"a dataset that divides itself among its workers goes on with as many as before: "
            f"num_workers must be {before}, got {workers}"
        )
        raise ValueError(sentence)


class Watched:
    """A worker's info that tells what it was asked for."""

    def __init__(self, info: Any) -> None:
        """Args: info: torch's."""
        self._info = info
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._info, name)


@contextmanager
def informed(info: Any) -> Iterator[None]:
    """Have torch's get_worker_info answer something else."""
    own = get_worker_info()
    torch_worker._worker_info = info  # noqa: SLF001  # torch has no other door
    try:
        yield
    finally:
        torch_worker._worker_info = own  # noqa: SLF001


def info_of(worker: int, dataset: Any) -> Any:
    """What torch's get_worker_info would say in another worker of the same loader."""
    own = get_worker_info()
    assert own is not None  # noqa: S101  # it is called in workers
    seed = own.seed - own.id + worker
    return torch_worker.WorkerInfo(
        id=worker, num_workers=own.num_workers, seed=seed, dataset=dataset
    )


class InitFn:
    """The script's worker_init_fn, which finds its own dataset in the worker's info.

    If it wants to know how many workers there are, it divides the dataset among them.
    """

    def __init__(self, init_fn: Callable[[int], None], shard: Any) -> None:
        """Args: init_fn: the script's; shard: what the loader reads of its dataset."""
        self.init_fn = init_fn
        self.shard = shard

    def __call__(self, worker: int) -> None:
        """Args: worker: its number, before any is exchanged."""
        worker = self.shard.stream_of(worker)
        watched = Watched(info_of(worker, self.shard.dataset))
        with informed(watched):
            self.init_fn(worker)
        self.shard.is_divided = "num_workers" in watched.asked
