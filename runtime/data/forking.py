"""Workers of a data loader that are forked from a process whose other threads never rest.

CPython may fork while a thread that is not Python's own is at its door, with a lock of the
interpreter in its hand: the child then waits for that lock before it has run a line of Python
(3.11's `PyOS_AfterFork_Child`). Threads of gloo and NCCL come to that door whenever they give a
tensor back. So each worker says a first word; one that does not is ended, and forked again.
"""

import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.popen_fork import Popen
from typing import Any

from torch import distributed
from torch.utils.data import DataLoader

PATIENCE: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0)  # seconds that each try is waited for


class Worker(ForkProcess):
    """A forked process whose start is known to have come about."""

    _word: Connection

    def run(self) -> None:
        """In the child: say so, then do the work."""
        with self._word:
            self._word.send_bytes(b"begun")
        super().run()

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802  # multiprocessing's hook
        """Fork until a child answers.

        Raises:
            RuntimeError: none did.
        """
        for seconds in PATIENCE:
            heard, process_obj._word = multiprocessing.Pipe(duplex=False)  # noqa: SLF001  # ours
            child = Popen(process_obj)
            process_obj._word.close()  # noqa: SLF001  # the child has its own
            with heard:
                if heard.poll(seconds):  # also if the child is dead: torch finds that out
                    return child
            child.kill()
            child.wait()
            child.close()
        sentence = (
            f"a forked worker of a data loader must begin, none of {len(PATIENCE)} did within "
            f'{sum(PATIENCE):.0f} s: give the loader multiprocessing_context="forkserver"'
        )
        raise RuntimeError(sentence)


class Context(ForkContext):
    """Forks `Worker`s."""

    Process = Worker


@contextlib.contextmanager
def answering(dataloader: DataLoader[Any]) -> Iterator[None]:
    """Within, workers that a data loader forks are sure to begin."""
    own = dataloader.multiprocessing_context
    if not dataloader.num_workers or not distributed.is_initialized() or not _forks(own):
        yield
        return
    dataloader.multiprocessing_context = Context()
    try:
        yield
    finally:
        dataloader.multiprocessing_context = own


def _forks(context: Any) -> bool:
    return type(context or multiprocessing.get_context()) is ForkContext
