"""What the commands about a job of a cluster work with."""

import re
import shlex
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from acceleratedjob.api import names
from acceleratedjob.api.names import ConditionType, View
from acceleratedjob.api.status import Status
from acceleratedjob.cluster import Gone, Listed, Ref
from acceleratedjob.errors import ClusterError, NotFound
from acceleratedjob.exits import EXIT_FAILED
from acceleratedjob.kube.cluster import KubernetesCluster

# An API server's answer for a path that it does not serve, rather than for a missing object.
_NO_RESOURCE = re.compile("page not found|could not find the requested resource")


@dataclass(frozen=True, slots=True)
class Session:
    """A job, or all jobs, of a cluster.

    Attributes:
        cluster: the cluster.
        namespace: the namespace of the job.
        name: the name of the job; None for all.
        flags: the options by which the user has chosen the cluster and the namespace.
    """

    cluster: KubernetesCluster
    namespace: str
    name: str | None = None
    flags: str = ""

    def hint(self, command: str, *more: str) -> str:
        """Return a command about the job, as it would be typed."""
        return f"`{' '.join(('acceleratedjob', command, str(self.name), *more))}{self.flags}`"

    @property
    def _ref(self) -> Ref:
        return Ref(names.KIND, self.namespace, str(self.name))

    async def read(self) -> View:
        """Return the job.

        Raises:
            NotFound: it does not exist.
            ClusterError: the API server does not know jobs.
        """
        try:
            return await self.cluster.read(self._ref)
        except NotFound as error:
            _check_installed(error)
            raise NotFound(
                f"job {shlex.quote(self._ref.name)} not found in namespace {self.namespace}; "
                "`acceleratedjob status -A` lists those of all namespaces"
            ) from error

    async def list(self) -> list[View]:
        """Return all jobs.

        Raises:
            ClusterError: the API server does not know jobs.
        """
        try:
            return [job async for page in self.cluster.list(names.KIND) for job in page.objects]
        except NotFound as error:
            _check_installed(error)
            raise

    async def suspend(self, suspend: bool) -> View:
        """Set `spec.suspend`, and return the job."""
        return await self.cluster.suspend(self._ref, suspend)

    async def changes(self) -> AsyncIterator[tuple[View, bool]]:
        """Yield the job, or every job, and then each change, with whether the job was deleted."""
        async for change in self.cluster.watch(names.KIND):
            jobs = change.objects if isinstance(change, Listed) else (change.object,)
            for job in jobs:
                if self.name in (None, job["metadata"]["name"]):
                    yield job, isinstance(change, Gone)

    async def states(self) -> AsyncGenerator[View]:
        """Yield the job, and then after each change.

        Raises:
            NotFound: the job was deleted.
        """
        async for job, gone in self.changes():
            if gone:
                raise NotFound(f"{self.name} was deleted")
            yield job


def _check_installed(error: NotFound) -> None:
    """Check that an API server that has not found something knows jobs.

    Raises:
        ClusterError: it does not.
    """
    if _NO_RESOURCE.search(str(error)):
        raise ClusterError(
            f"the API server must have {names.PLURAL}, and has not: install the CRD, which is part "
            "of the chart"
        ) from error


def exit_code(job: View) -> int:
    """Return the exit code of a command about a job: whether the job has failed."""
    return EXIT_FAILED if Status.from_manifest(job).holds(ConditionType.FAILED) else 0
