"""Writes a checkpoint's files in threads, and completes the checkpoint when all are written.

The threads call no collectives: a process that writes already has all states to be written.
"""

import atexit
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.checkpoint import atomic
from runtime.checkpoint.formats import Part
from runtime.errors import CheckpointError

_WRITERS = min(os.cpu_count() or 1, 4)  # threads; torch and safetensors release the GIL


@dataclass(frozen=True)
class PendingSave:
    """A checkpoint to write.

    Attributes:
        parts: the files to write.
        folder: the directory from `atomic.begun`. Files that are already in it also belong to the
            checkpoint.
        target: the final directory of the checkpoint.
        facts: additional entries of the manifest.
        durable: whether to flush all files to disk before the checkpoint is complete.
        then: a function to call once the checkpoint is complete.
        ready: waits until the parts can be read.
    """

    parts: Sequence[Part]
    folder: Path
    target: Path
    facts: dict[str, Any]
    durable: bool
    then: Callable[[], None]
    ready: Callable[[], None]

    def write(self, part: Part) -> dict[str, Any]:
        """Write one file; return its name and its manifest entry."""
        self.ready()
        return {part.name: part.write(self.folder, durable=self.durable)}

    def finish(self, written: Sequence[Future[dict[str, Any]]]) -> None:
        """Wait for all files and complete the checkpoint; on failure remove it.

        Args:
            written: the results of `write` for all parts.
        """
        wait(written)
        try:
            known = {name: found for one in written for name, found in one.result().items()}
            atomic.finished(self.folder, self.target, self.facts, known, durable=self.durable)
        except BaseException:
            atomic.dropped(self.folder)
            raise
        self.then()


class Writer:
    """Writes one checkpoint at a time in background threads.

    At its exit the interpreter waits for these threads, so a running write is completed.
    """

    def __init__(self) -> None:
        # The pool is kept: starting threads for each checkpoint would prolong the training's pause.
        self._pool = ThreadPoolExecutor(_WRITERS, "checkpoint")
        self._under_way: tuple[Path, Future[None]] | None = None
        self._spent: list[float] = []  # CPU seconds of the threads, for the last checkpoint

    def __reduce__(self) -> tuple[type["Writer"], tuple[()]]:
        """Pickle as a new writer, which writes nothing; an Accelerator may be pickled."""
        return Writer, ()

    def begin(self, save: PendingSave) -> None:
        """Start to write a checkpoint; the previous one must be complete."""
        # The pool runs tasks in order: when `finish` waits for the files, all of them have started.
        self._spent = []
        write = functools.partial(_timed, self._spent, save.write)
        written = [self._pool.submit(write, part) for part in save.parts]
        self._under_way = save.target, self._pool.submit(save.finish, written)
        atexit.register(self._end)  # keeps the writer alive, and reports an error if nobody waits

    @property
    def is_idle(self) -> bool:
        """Whether no checkpoint is being written."""
        return self._under_way is None or self._under_way[1].done()

    @property
    def cpu_seconds(self) -> float:
        """The CPU time for the files of the last checkpoint, which the training may have missed."""
        return sum(self._spent)

    def wait(self) -> None:
        """Wait until the checkpoint is complete.

        Raises:
            CheckpointError: the checkpoint could not be written; raised once.
        """
        if self._under_way is None:
            return
        (target, future), self._under_way = self._under_way, None
        atexit.unregister(self._end)
        if (error := future.exception()) is not None:
            sentence = f"{target} could not be written: {error!r}; older checkpoints are unchanged"
            raise CheckpointError(sentence) from error

    def _end(self) -> None:
        """Wait, and say it if the checkpoint could not be written: the script cannot catch it."""
        try:
            self.wait()
        except CheckpointError as error:
            sys.stderr.write(f"runtime: the last checkpoint is missing: {error}\n")


def _timed(
    spent: list[float], write: Callable[[Part], dict[str, Any]], part: Part
) -> dict[str, Any]:
    """Write a file, and note the CPU time of this thread."""
    began = time.thread_time()
    try:
        return write(part)
    finally:
        spent.append(time.thread_time() - began)
