"""Kopf's watch of the jobs, begun again whenever it ends.

Kopf ends when the CRD is deleted, and at each error of a watch but one. The operator goes on: pods
are watched by others, and what jobs there are is known again as soon as they can be listed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import NoReturn

import kopf

from acceleratedjob.kube.handlers import Handlers, settings
from acceleratedjob.queue import Backoff

log = logging.getLogger(__name__)

LONG_SECONDS = 60.0  # a life after which the next end is a first one again


async def watch_jobs(
    handlers: Handlers,
    namespaces: Collection[str],
    *,
    ready: Callable[[], Awaitable[None]],
    begun: Callable[[], None],
) -> NoReturn:
    """Run kopf until cancelled.

    Args:
        handlers: what kopf calls.
        namespaces: those that are served; empty for all.
        ready: returns when jobs can be listed.
        begun: called when kopf has begun and has taken the process' signals for itself.
    """
    backoff, clock = Backoff(initial=1.0, maximum=30.0), asyncio.get_running_loop().time
    while True:
        began = clock()
        error = await _run(handlers, namespaces, begun)
        if clock() - began > LONG_SECONDS:
            backoff.reset("kopf")
        seconds = backoff.next("kopf")
        sentence = "kopf's watch of the jobs has ended, and begins anew in %g s: %s"
        log.warning(sentence, seconds, error, exc_info=None if _is_answer(error) else error)
        await asyncio.sleep(seconds)
        await ready()


async def _run(
    handlers: Handlers, namespaces: Collection[str], begun: Callable[[], None]
) -> BaseException:
    """Run kopf until it ends; why it has."""
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
    return next((error for error in errors if error), RuntimeError("nobody has asked for it"))


def _is_answer(error: BaseException) -> bool:
    """Whether an error is kopf's word for what the API server has answered, and no bug."""
    return type(error).__module__.startswith("kopf._cogs.clients")
