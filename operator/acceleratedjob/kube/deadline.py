"""The longest that a process may take to end once it was asked to.

What it waits for then is other people's code as well: a connection's goodbye, a resolver's thread.
None of it is worth staying for, as whatever is cut off the next operator makes good.
"""

import asyncio
import logging
import os
import threading

from acceleratedjob.exits import EXIT_HELD_UP

END_SECONDS = 20  # of the 30 that Kubernetes gives a pod

log = logging.getLogger(__name__)


def end_within(loop: asyncio.AbstractEventLoop, seconds: float = END_SECONDS) -> None:
    """End this process when the time is over, even if its loop stands still."""
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
