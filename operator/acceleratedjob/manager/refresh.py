"""Lists objects in the two cases in which a watch is not enough.

At a takeover, a watch may lag behind the last writes of the former leader. After a gap, kopf
reports all existing jobs, but not those that were deleted.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import NoReturn

from acceleratedjob.api import names
from acceleratedjob.cluster import WATCHED
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.controller.controller import Controller
from acceleratedjob.errors import ClusterError, NoAnswer
from acceleratedjob.kube.cluster import KubernetesCluster

log = logging.getLogger(__name__)


async def take_over(cluster: KubernetesCluster, controller: Controller) -> None:
    """List all objects once.

    Jobs are listed first, so that the pods are never older than the status that counts them.
    """
    await _read(cluster, controller, (names.KIND, *WATCHED), "taking over")


async def resync(
    cluster: KubernetesCluster, controller: Controller, wanted: asyncio.Event
) -> NoReturn:
    """List all jobs whenever the event is set, and forget those that no longer exist."""
    while True:
        await wanted.wait()
        wanted.clear()
        await _read(cluster, controller, (names.KIND,), "listing the jobs again")


async def _read(
    cluster: KubernetesCluster, controller: Controller, kinds: Iterable[str], purpose: str
) -> None:
    """List all objects of some kinds, in order; retry until it succeeds."""
    backoff = Backoff(initial=0.5, maximum=10)
    while True:
        try:
            for kind in kinds:
                async for page in cluster.list(kind):
                    controller.take(kind, page, purpose)
        except ClusterError as error:
            if isinstance(error, NoAnswer):
                cluster.connection.contact.lost(error)
            else:
                log.warning("%s: %s", purpose, error)
            await asyncio.sleep(backoff.next(purpose))
        else:
            return
