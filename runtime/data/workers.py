"""How the workers of a data loader share an iterable dataset, and how far each has read it.

A dataset that ignores workers is one stream. Each worker iterates over it, and worker i of n takes
the pieces i, i+n, ... A dataset that divides itself among the workers has one stream per worker.
Torch takes batches from the workers in turn, so the order is deterministic in both cases.
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
    """A batch, and what only the process that has read it knows about it.

    Attributes:
        content: the batch.
        real: the number of items of all ranks in an incomplete last step, without those that were
            added to fill it; 0 in any other step.
        state: the dataset's state after this batch; None if the dataset has no state.
        worker: the worker whose stream the batch is from; None if there is one stream for all.
    """

    content: Any
    real: int
    state: Any
    worker: int | None

    def pin_memory(self, device: Any = None) -> "Given":
        """Return a copy in pinned memory; torch calls this method."""
        pinned = pin_memory(self.content, device)  # type: ignore[no-untyped-call]  # torch has not typed it
        return Given(pinned, self.real, self.state, self.worker)


def content(batch: Any) -> Any:
    """Return a batch as the script gets it."""
    return batch.content if isinstance(batch, Given) else batch


@dataclass(slots=True)
class Progress:
    """How far an iterable dataset was read, after the last batch that was yielded.

    Attributes:
        state: the dataset's state if there is one stream; None if the dataset has no state.
        workers: the number of workers that the dataset divides itself among; 0 if there is one
            stream.
        following: the worker whose stream has the next batch.
        streams: for each worker, the number of batches that it has yielded and the dataset's state.
    """

    state: Any = None
    workers: int = 0
    following: int = 0
    streams: dict[int, tuple[int, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, state_dict: dict[str, Any] | None) -> "Progress":
        """Return the progress that `state_dict` has returned; None stands for the beginning."""
        progress = cls(**(state_dict or {}))
        progress.streams = dict(progress.streams)
        return progress

    def note(self, batch: Any, workers: int) -> Any:
        """Record a batch as yielded, and return its content for the script.

        Args:
            batch: the batch; only a `Given` changes the progress.
            workers: the number of the loader's workers.
        """
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
        """Return the progress as plain values."""
        return {
            "state": self.state,
            "workers": self.workers,
            "following": self.following,
            "streams": dict(self.streams),
        }


def must_be_as_before(before: int, workers: int) -> None:
    """Check that a dataset which divides itself among workers can be resumed.

    Args:
        before: the number of workers when the state was saved; 0 if there was one stream.
        workers: the number of workers of the loader that resumes.

    Raises:
        ValueError: the numbers differ.
    """
    if before != workers:
        sentence = (
            f"a dataset that divides itself among workers can only be resumed with the same "
            f"number of workers: num_workers must be {before}, got {workers}"
        )
        raise ValueError(sentence)


class Watched:
    """A torch WorkerInfo that records which attributes are read.

    Attributes:
        asked: the names of the attributes that were read.
    """

    def __init__(self, info: Any) -> None:
        """Wrap a WorkerInfo.

        Args:
            info: torch's WorkerInfo.
        """
        self._info = info
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self._info, name)


@contextmanager
def informed(info: Any) -> Iterator[None]:
    """Let torch's get_worker_info return another value inside the context."""
    own = get_worker_info()
    torch_worker._worker_info = info  # noqa: SLF001  # torch has no public setter
    try:
        yield
    finally:
        torch_worker._worker_info = own  # noqa: SLF001


def info_of(worker: int, dataset: Any) -> Any:
    """Return what torch's get_worker_info returns in another worker of the same loader.

    Args:
        worker: the number of the other worker.
        dataset: the value of the attribute `dataset`.
    """
    own = get_worker_info()
    assert own is not None  # noqa: S101  # it is only called in workers
    seed = own.seed - own.id + worker
    return torch_worker.WorkerInfo(
        id=worker, num_workers=own.num_workers, seed=seed, dataset=dataset
    )


class InitFn:
    """A worker_init_fn that calls the script's one with the script's dataset in the worker info.

    If the function reads `num_workers`, it is assumed to divide the dataset among the workers.
    """

    def __init__(self, init_fn: Callable[[int], None], shard: Any) -> None:
        """Wrap a worker_init_fn.

        Args:
            init_fn: the script's worker_init_fn.
            shard: the IterableDatasetShard that the loader reads.
        """
        self.init_fn = init_fn
        self.shard = shard

    def __call__(self, worker: int) -> None:
        """Call the script's function in a worker.

        Args:
            worker: the worker's number in this run; the script's function gets the number of the
                worker whose stream is continued.
        """
        worker = self.shard.stream_of(worker)
        watched = Watched(info_of(worker, self.shard.dataset))
        with informed(watched):
            self.init_fn(worker)
        self.shard.is_divided = "num_workers" in watched.asked
