"""Runs the jobs of a client on a cluster, with the permissions of the user."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from acceleratedjob.api import names
from acceleratedjob.api.names import Manifest, View
from acceleratedjob.api.status import Status
from acceleratedjob.client.pod_logs import PodLogs
from acceleratedjob.client.portal import Portal, Put
from acceleratedjob.client.state import LogLine, processes
from acceleratedjob.client.training import with_owner
from acceleratedjob.cluster import Gone, Listed, Ref
from acceleratedjob.errors import AlreadyExists, ClusterError, NotFound
from acceleratedjob.kube.client import Connection, connect, load_configuration
from acceleratedjob.kube.cluster import KubernetesCluster


class ClusterBackend:
    """The jobs of a namespace of a cluster."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str) -> None:
        """Connect to a cluster.

        Args:
            kubeconfig: the path of the kubeconfig; None for the one that kubectl would use.
            context: the context; None for the current one.
            namespace: the namespace of the jobs.

        Raises:
            Unreachable: the kubeconfig cannot be used.
        """
        self._namespace = namespace
        self._portal = Portal()
        self._closing = contextlib.AsyncExitStack()
        try:
            self._connection = self._portal.run(self._connect(kubeconfig, context))
        except BaseException:
            self._portal.close()
            raise
        self._cluster = KubernetesCluster(self._connection, namespace)

    async def _connect(self, kubeconfig: str | None, context: str | None) -> Connection:
        configuration = await load_configuration(kubeconfig, context)
        return await self._closing.enter_async_context(connect(configuration))

    @property
    def namespace(self) -> str:
        """See `Backend.namespace`."""
        return self._namespace

    @property
    def needs_image(self) -> bool:
        """See `Backend.needs_image`."""
        return True

    def create(self, job: Manifest, config_map: Manifest) -> Manifest:
        """See `Backend.create`."""
        return self._portal.run(self._create(job, config_map))

    async def _create(self, job: Manifest, config_map: Manifest) -> Manifest:
        name = job["metadata"]["name"]
        try:
            made = await self._cluster.create(job)
            await self._cluster.create(with_owner(config_map, made))
        except AlreadyExists as error:
            sentence = f"a job {name} exists in {self.namespace}: delete it, or choose another name"
            raise AlreadyExists(sentence) from error
        except BaseException as error:  # also if the user interrupts it
            await self._undo(job, error)
            raise
        return made

    async def _undo(self, job: Manifest, error: BaseException) -> None:
        """Delete a job that has been created, or may have been, without its code.

        Another job of its name does not have the same volumes, which contain a random name.
        """
        try:
            found = await self._cluster.read(Ref.of(job))
            if _volumes(found) == _volumes(job):
                await self._delete(found)
        except NotFound:
            return
        except ClusterError as another:
            name = job["metadata"]["name"]
            error.add_note(f"the job {name} may be left, and cannot start: delete it ({another})")

    async def _delete(self, job: View) -> None:
        with contextlib.suppress(NotFound):
            await self._cluster.delete(Ref.of(job), uid=job["metadata"]["uid"])

    def read(self, name: str) -> Manifest:
        """See `Backend.read`."""
        return self._portal.run(self._cluster.read(self._ref(name)))

    def list(self) -> list[Manifest]:
        """See `Backend.list`."""

        async def read_all() -> list[Manifest]:
            pages = self._cluster.list(names.KIND)
            return [job async for page in pages for job in page.objects]

        return sorted(self._portal.run(read_all()), key=lambda job: str(job["metadata"]["name"]))

    def until(self, name: str, holds: Callable[[View], bool], timeout: float | None) -> Manifest:
        """See `Backend.until`."""

        async def wait() -> Manifest:
            async with asyncio.timeout(timeout):
                return await self._until(name, holds)

        return self._portal.run(wait())

    async def _until(self, name: str, holds: Callable[[View], bool]) -> Manifest:
        """Wait as `until`, without a limit."""
        await self._cluster.read(self._ref(name))
        is_there = False
        async for change in self._cluster.watch(names.KIND):
            jobs = change.objects if isinstance(change, Listed) else (change.object,)
            for job in (one for one in jobs if one["metadata"]["name"] == name):
                is_there = not isinstance(change, Gone)
                if is_there and holds(job):
                    return job
            if not is_there and not (isinstance(change, Listed) and change.more):
                raise NotFound(f"the job {name} was deleted")
        raise AssertionError  # a watch does not end

    def suspend(self, name: str, suspend: bool) -> None:
        """See `Backend.suspend`."""
        self._portal.run(self._cluster.suspend(self._ref(name), suspend))

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""

        async def delete() -> None:
            await self._delete(await self._cluster.read(self._ref(name)))

        self._portal.run(delete())

    def logs(self, name: str, *, replica: int | None, follow: bool) -> Iterator[LogLine]:
        """See `Backend.logs`."""
        job = self.read(name)
        logs = PodLogs(
            connection=self._connection,
            namespace=self.namespace,
            job=name,
            uid=job["metadata"]["uid"],
            attempt=Status.from_manifest(job).attempt,
            processes=processes(job),
            replica=replica,
        )

        async def produce(put: Put[LogLine]) -> None:
            if follow:
                await logs.follow(put, self._until(name, _has_finished))
            else:
                await logs.show(put)

        return self._portal.iterate(produce)

    def close(self) -> None:
        """See `Backend.close`."""
        self._portal.run(self._closing.aclose())
        self._portal.close()

    def leave(self) -> None:
        """See `Backend.leave`."""
        self.close()

    def _ref(self, name: str) -> Ref:
        return Ref(names.KIND, self.namespace, name)


def _volumes(job: View) -> list[str]:
    pod = job["spec"]["template"]["spec"]
    return [one["name"] + str(one.get("configMap")) for one in pod.get("volumes") or ()]


def _has_finished(job: View) -> bool:
    return Status.from_manifest(job).finished
