"""Before an operator begins: the API server must be there, have our CRD, and let us list jobs.

Kopf asks once what the API server has: without an answer it ends, and a CRD that is installed later
it never sees.
"""

import asyncio
import logging

from acceleratedjob.errors import ClusterError, NoAnswer, NotFound, Unreachable
from acceleratedjob.kube.connection import Connection
from acceleratedjob.kube.pulse import Pulse
from acceleratedjob.queue import Backoff

log = logging.getLogger(__name__)


async def arrive(connection: Connection, pulse: Pulse, path: str) -> None:
    """Wait until the jobs of a path can be listed.

    Raises:
        Unreachable: it will never be so, as things are.
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
                log.warning("jobs cannot be listed yet, it is tried again: %s", _advice(error))
            told = str(error)
        else:
            return
        await asyncio.sleep(backoff.next(path))


def _hear(pulse: Pulse, path: str, *, heard: bool) -> None:
    """What is said to this is said to the jobs' watch, and to all that have not begun."""
    for each in (path, *pulse.unlisted) if heard else ():
        pulse.hear(each)


def _advice(error: ClusterError) -> str:
    missing = isinstance(error, NotFound)
    return f"{error}; install the CRD, which the chart brings" if missing else str(error)
