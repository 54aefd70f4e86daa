"""Connects the commands about jobs to the cluster that the user means."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from acceleratedjob.commands.session import Session
from acceleratedjob.commands.where import Where
from acceleratedjob.kube.client import connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.in_cluster import OWN_NAMESPACE, own_namespace
from acceleratedjob.kube.kubeconfig import find


def ask(where: Where, job: str | None, command: Callable[[Session], Awaitable[int]]) -> int:
    """Run a command about a job, or about all jobs, and return its exit code.

    Raises:
        ClusterError: the cluster cannot be reached, or rejects a request.
    """

    async def run() -> int:
        async with session(where, job) as opened:
            return await command(opened)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def session(where: Where, job: str | None = None) -> AsyncIterator[Session]:
    """Connect to a cluster, inside the block."""
    configuration = await load_configuration(where.files, where.context)
    namespace = where.namespace or _usual_namespace(where)
    async with connect(configuration) as connection:
        yield Session(KubernetesCluster(connection, namespace), namespace, job, where.flags)


def _usual_namespace(where: Where) -> str:
    """Return the namespace that kubectl would use: that of the context, or that of the pod."""
    if where.files is None and where.context is None and OWN_NAMESPACE.exists():
        return own_namespace()
    return find(where.files, where.context).namespace
