"""Reads the logs of the pods of a job."""

from collections.abc import AsyncIterator

import aiohttp

from acceleratedjob.api.names import View
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.cluster import collection
from acceleratedjob.kube.health import Pulse
from acceleratedjob.kube.informer import Stream
from acceleratedjob.lines import Line, LineCutter
from acceleratedjob.observe.containers import trainer_name

_CONNECT_SECONDS = 10


def pod_stream(connection: Connection, namespace: str, selector: str) -> Stream:
    """Return the stream of the pods that match a label selector."""
    return Stream(connection, collection("Pod", namespace), "Pod", selector, Pulse(()))


async def read_log(
    connection: Connection, namespace: str, pod: View, *, follow: bool
) -> AsyncIterator[list[Line]]:
    """Yield the lines of the training container of a pod, as many at once as have arrived.

    Args:
        connection: the connection to the API server.
        namespace: the namespace of the pod.
        pod: the pod.
        follow: whether to yield new lines until the container ends.

    Raises:
        NotFound: the pod was deleted.
        ClusterError: the log cannot be read.
    """
    path = f"{collection('Pod', namespace)}/{pod['metadata']['name']}/log"
    params = {"container": trainer_name(pod), "follow": str(follow).lower()}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
    async with connection.open("GET", path, params=params, timeout=timeout) as answer:
        cutter = LineCutter()
        async for data in answer.content.iter_any():
            yield [*cutter.feed(data)]
        yield [*cutter.end()]
