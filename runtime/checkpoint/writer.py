"""Writes a checkpoint's files in threads, and makes it valid when all are there.

No thread speaks with another process: whoever writes has all that is to be written.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.checkpoint import manifest, storage
from runtime.checkpoint.formats import Part
from runtime.errors import CheckpointError

_WRITERS = min(
    os.cpu_count() or 1, 4
)  # files at a time; neither torch nor safetensors hold the lock


@dataclass(frozen=True)
class Job:
    """A checkpoint that is to be written."""

    parts: Sequence[Part]
    folder: Path  # from placing.begun; what is in it belongs to the checkpoint, too
    target: Path
    facts: dict[str, Any]  # for the manifest
    durable: bool
    then: Callable[[], None]  # to be done when it is valid

    def write(self, part: Part) -> dict[str, Any]:
        """Write one file; gives what the manifest says of it."""
        return {part.name: manifest.checked(part.write(self.folder), self.durable)}

    def finish(self, written: Sequence[Future[dict[str, Any]]]) -> None:
        """Make it valid, or remove what there is of it."""
        wait(written)
        try:
            known = {name: found for one in written for name, found in one.result().items()}
            storage.finished(self.folder, self.target, self.facts, known, durable=self.durable)
        except BaseException:
            storage.dropped(self.folder)
            raise
        self.then()


class Writer:
    """Writes one checkpoint at a time.

    The interpreter waits at its end for what is being written: it joins the pool's threads.
    """

    def __init__(self) -> None:
        # Its threads start with the first checkpoint and stay: to start them is part of the pause.
        self._pool = ThreadPoolExecutor(_WRITERS, "checkpoint")
        self._under_way: tuple[Path, Future[None]] | None = None

    def __reduce__(self) -> tuple[type["Writer"], tuple[()]]:
        """A copy, as in a pickled Accelerator, has nothing under way."""
        return Writer, ()

    def begin(self, job: Job) -> None:
        """Have a checkpoint written; the one before is done."""
        # First in, first out: when the last one waits for the others, each of them has a thread.
        written = [self._pool.submit(job.write, part) for part in job.parts]
        self._under_way = job.target, self._pool.submit(job.finish, written)
        atexit.register(self.wait)  # so that no error is lost; until then the writer stays

    def wait(self) -> None:
        """Return when it is there.

        Raises:
            CheckpointError: it cannot be written; said once.
        """
        if self._under_way is None:
            return
        (target, future), self._under_way = self._under_way, None
        atexit.unregister(self.wait)
        if (error := future.exception()) is not None:
            sentence = f"{target} could not be written: {error!r}; the older checkpoints are there"
            raise CheckpointError(sentence) from error
