"""Waits, before kopf starts, until the jobs can be listed.

The API server must respond, have the CRD, and grant the permission. Kopf reads the resources of the
API server once: without a response it ends, and it never notices a CRD that is installed later.
"""

import asyncio
import logging

from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.errors import ClusterError, NoAnswer, NotFound, Unreachable
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.health import Pulse

log = logging.getLogger(__name__)


async def arrive(connection: Connection, pulse: Pulse, path: str) -> None:
    """Wait until the jobs of a path can be listed.

    Raises:
        Unreachable: the kubeconfig or a certificate is invalid.
    """
    backoff = Backoff(initial=0.5, maximum=min(10, pulse.silence / 3))
    told = ""
    while True:
        try:
            await connection.request("GET", path, params={"limit": "1"})
        except Unreachable:
            raise
        except NoAnswer as error:
            connection.contact.lost(error)
            _hear(pulse, path, heard=not error.silent)
        except ClusterError as error:
            _hear(pulse, path, heard=True)
            if told != str(error):
                log.warning("jobs cannot be listed yet, retrying: %s", _advice(error))
            told = str(error)
        else:
            return
        await asyncio.sleep(backoff.next(path))


def _hear(pulse: Pulse, path: str, *, heard: bool) -> None:
    """Record a response for the watch of the jobs, and for all watches that have not started."""
    for each in (path, *pulse.unlisted) if heard else ():
        pulse.hear(each)


def _advice(error: ClusterError) -> str:
    missing = isinstance(error, NotFound)
    return f"{error}; install the CRD, which is part of the chart" if missing else str(error)
