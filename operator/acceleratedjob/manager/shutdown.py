"""A time limit for the shutdown of the process.

A shutdown also waits for code of libraries, for example to close a connection or to join the thread
of a resolver. It is safe to interrupt: the next operator repeats what was not completed.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from acceleratedjob.exits import EXIT_HELD_UP

END_SECONDS = 20  # less than the default grace period of a pod, 30 s

log = logging.getLogger(__name__)


def end_within(loop: asyncio.AbstractEventLoop, seconds: float = END_SECONDS) -> None:
    """Exit the process after some seconds, even if its event loop is blocked."""
    _start_timer(seconds, partial(_tell, loop))


def _start_timer(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    _start_timer(1, _end)  # what follows may block
    waiting = sorted({str(task.get_coro()) for task in asyncio.all_tasks(loop)})
    log.critical("shutdown timed out, exiting without waiting for %s", ", ".join(waiting))
    _end()


def _end() -> None:
    os._exit(EXIT_HELD_UP)
