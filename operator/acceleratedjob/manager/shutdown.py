"""A time limit for the shutdown of the process.

A shutdown also waits for the code of libraries, such as closing a connection or a resolver's
thread. Nothing of that matters: what is interrupted, the next operator does again.
"""

import asyncio
import logging
import os
import threading

from acceleratedjob.exits import EXIT_HELD_UP

END_SECONDS = 20  # of the 30 that Kubernetes gives a pod

log = logging.getLogger(__name__)


def end_within(loop: asyncio.AbstractEventLoop, seconds: float = END_SECONDS) -> None:
    """Exit the process when the time is over, even if its event loop is blocked."""
    for after, act in ((seconds, _tell), (seconds + 1, _end)):  # whoever cannot tell ends as well
        timer = threading.Timer(after, act, (loop,))
        timer.daemon = True
        timer.start()


def _tell(loop: asyncio.AbstractEventLoop) -> None:
    waiting = sorted({str(task.get_coro()) for task in asyncio.all_tasks(loop)})
    log.critical("asked to end, and held up: ends by force. It waited for %s", ", ".join(waiting))
    _end(loop)


def _end(_loop: asyncio.AbstractEventLoop) -> None:
    os._exit(EXIT_HELD_UP)
