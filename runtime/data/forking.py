"""Forking data loader workers safely while threads of gloo or NCCL are running.

CPython may fork while a native thread holds a lock of the interpreter. The child then waits for
that lock forever, before it has run any Python code (`PyOS_AfterFork_Child` of 3.11). Threads of
gloo and NCCL take that lock whenever they release a tensor. So each worker confirms its start; a
worker that does not is killed and forked again.
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

PATIENCE: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 32.0)  # seconds to wait for each attempt


class Worker(ForkProcess):
    """A forked process that confirms its start to its parent."""

    _word: Connection

    def run(self) -> None:
        """Confirm the start, then do the work; runs in the child."""
        with self._word:
            self._word.send_bytes(b"begun")
        super().run()

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802  # multiprocessing's hook
        """Fork until a child confirms its start.

        Raises:
            RuntimeError: no child has confirmed it.
        """
        for seconds in PATIENCE:
            heard, process_obj._word = multiprocessing.Pipe(duplex=False)  # noqa: SLF001  # it is a Worker
            child = Popen(process_obj)
            process_obj._word.close()  # noqa: SLF001  # the child has a copy
            with heard:
                if heard.poll(seconds):  # also true if the child is dead, which torch detects
                    return child
            child.kill()
            child.wait()
            child.close()
        sentence = (
            f"a forked data loader worker must start, but none of {len(PATIENCE)} did within "
            f'{sum(PATIENCE):.0f} s: pass multiprocessing_context="forkserver" to the data loader'
        )
        raise RuntimeError(sentence)


class Context(ForkContext):
    """A multiprocessing context whose processes are `Worker` objects."""

    Process = Worker


@contextlib.contextmanager
def answering(dataloader: DataLoader[Any]) -> Iterator[None]:
    """Let workers that a data loader forks inside the context confirm their start."""
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
