"""Reads from the API server what no watch has told: all that there is, or all that is not.

At a takeover a watch may be behind what the last leader has left. And after a gap kopf says of each
job that it is there, and nothing of those that are not.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import NoReturn

from acceleratedjob import api
from acceleratedjob.cluster import WATCHED
from acceleratedjob.errors import ClusterError, NoAnswer
from acceleratedjob.kube.objects import KubernetesCluster
from acceleratedjob.queue import Backoff
from acceleratedjob.reconciler import Reconciler

log = logging.getLogger(__name__)


async def take_over(cluster: KubernetesCluster, reconciler: Reconciler) -> None:
    """Read everything once.

    The jobs come first, so that no pod is seen older than the status that counts it.
    """
    await _read(cluster, reconciler, (api.KIND, *WATCHED), "taking over")


async def resync(
    cluster: KubernetesCluster, reconciler: Reconciler, wanted: asyncio.Event
) -> NoReturn:
    """Read all jobs again whenever it is wanted, and forget those that are not there any more."""
    while True:
        await wanted.wait()
        wanted.clear()
        await _read(cluster, reconciler, (api.KIND,), "listing the jobs again")


async def _read(
    cluster: KubernetesCluster, reconciler: Reconciler, kinds: Iterable[str], purpose: str
) -> None:
    """Read all objects of some kinds, in order; begin again until it is done."""
    backoff = Backoff(initial=0.5, maximum=10)
    while True:
        try:
            for kind in kinds:
                async for page in cluster.list(kind):
                    reconciler.take(kind, page, purpose)
        except ClusterError as error:
            if isinstance(error, NoAnswer):
                cluster.connection.contact.lost(error)
            else:
                log.warning("%s: %s", purpose, error)
            await asyncio.sleep(backoff.next(purpose))
        else:
            return
