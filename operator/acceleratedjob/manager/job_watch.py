"""Runs kopf's watch of the jobs, and restarts it whenever it ends.

Kopf ends when the CRD is deleted, and at every watch error except 410. The operator continues: pods
have their own watches, and the jobs are listed again as soon as that is possible.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import NoReturn

import kopf

from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.manager.jobs import Handlers, settings

log = logging.getLogger(__name__)

LONG_SECONDS = 60.0  # a run of kopf that lasts longer resets the backoff


async def watch_jobs(
    handlers: Handlers,
    namespaces: Collection[str],
    *,
    ready: Callable[[], Awaitable[None]],
    begun: Callable[[], None],
) -> NoReturn:
    """Run kopf until cancelled.

    Args:
        handlers: the handlers that kopf calls.
        namespaces: the namespaces to serve; empty for all.
        ready: returns when jobs can be listed.
        begun: called when kopf has started, and has installed its own signal handlers.
    """
    backoff, clock = Backoff(initial=1.0, maximum=30.0), asyncio.get_running_loop().time
    while True:
        began = clock()
        error = await _run(handlers, namespaces, begun)
        if clock() - began > LONG_SECONDS:
            backoff.reset("kopf")
        seconds = backoff.next("kopf")
        sentence = "kopf's watch of the jobs has ended, restarting it in %g s: %s"
        log.warning(sentence, seconds, error, exc_info=None if _is_answer(error) else error)
        await asyncio.sleep(seconds)
        await ready()


async def _run(
    handlers: Handlers, namespaces: Collection[str], begun: Callable[[], None]
) -> BaseException:
    """Run kopf until it ends, and return the error that ended it."""
    roots = await kopf.spawn_tasks(
        registry=handlers.registry(),
        settings=settings(handlers.pulse),
        namespaces=namespaces,
        clusterwide=not namespaces,
        standalone=True,
    )
    begun()
    try:
        await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for root in roots:
            root.cancel()
        await asyncio.wait(roots)
    errors = [root.exception() for root in roots if not root.cancelled()]
    return next((error for error in errors if error), RuntimeError("kopf reported no error"))


def _is_answer(error: BaseException) -> bool:
    """Whether an error is kopf's error for a response of the API server, rather than a bug."""
    return type(error).__module__.startswith("kopf._cogs.clients")
