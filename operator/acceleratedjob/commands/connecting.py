"""Connects the commands about jobs to the cluster that the user means."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from acceleratedjob.commands.session import Session
from acceleratedjob.commands.where import Where
from acceleratedjob.kube.client import connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster
from acceleratedjob.kube.kubeconfig import usual_namespace


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
    namespace = where.namespace or usual_namespace(where.files, where.context)
    async with connect(configuration) as connection:
        yield Session(KubernetesCluster(connection, namespace), namespace, job, where.flags)
