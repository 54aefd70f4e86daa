"""Publishes checkpoints from memory to storage, beside the training."""

import functools
import time
from collections.abc import Callable

from runtime.checkpoint.threads import Beside
from runtime.errors import CheckpointError


class Upload:
    """One upload at a time, in a thread; at its exit the interpreter waits for it.

    Attributes:
        number: the number, in memory, of the checkpoint that is or was published last.
        cpu_seconds: the CPU time of the last upload.
    """

    def __init__(self) -> None:
        """Begin without an upload."""
        self.number: int | None = None
        self.cpu_seconds = 0.0
        self._thread: Beside[None] | None = None

    def begin(self, number: int, publish: Callable[[], None]) -> None:
        """Start to publish a checkpoint; `wait` was called for the one before.

        Args:
            number: its number in memory.
            publish: the function that publishes it.
        """
        self.number = number
        self._thread = Beside(functools.partial(self._timed, publish))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being published."""
        return self._thread is None or not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until the checkpoint is published.

        Raises:
            CheckpointError: it could not be; raised once.
        """
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                thread.result()
        except Exception as error:
            raise CheckpointError(f"{error}; older checkpoints are unchanged") from error

    def _timed(self, publish: Callable[[], None]) -> None:
        began = time.thread_time()
        try:
            publish()
        finally:
            self.cpu_seconds = time.thread_time() - began
