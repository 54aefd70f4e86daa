"""A time limit for the shutdown of the process.

A shutdown also waits for code of libraries, for example to close a connection or to join the thread
of a resolver. It is safe to interrupt: the next operator repeats what was not completed.
"""

import asyncio
import logging
import os
import threading

from acceleratedjob.exits import EXIT_HELD_UP

END_SECONDS = 20  # less than the default grace period of a pod, 30 s

log = logging.getLogger(__name__)


def end_within(loop: asyncio.AbstractEventLoop, seconds: float = END_SECONDS) -> None:
    """Exit the process after some seconds, even if its event loop is blocked."""
    for after, act in ((seconds, _tell), (seconds + 1, _end)):  # `_tell` may block
        timer = threading.Timer(after, act, (loop,))
        timer.daemon = True
        timer.start()


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    waiting = sorted({str(task.get_coro()) for task in asyncio.all_tasks(loop)})
    log.critical("shutdown timed out, exiting without waiting for %s", ", ".join(waiting))
    _end(loop)


def _end(_loop: asyncio.AbstractEventLoop) -> None:
    os._exit(EXIT_HELD_UP)
