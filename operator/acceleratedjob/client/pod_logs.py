"""Reads the logs of the pods of a job, over its attempts."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.client.portal import Put
from acceleratedjob.client.state import LogLine
from acceleratedjob.cluster import Listed
from acceleratedjob.errors import NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.informer import Stream
from acceleratedjob.kube.logs import pod_stream, read_log
from acceleratedjob.observe.containers import has_begun


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLogs:
    """The logs of the pods of a job that are chosen.

    Attributes:
        connection: the connection to the API server.
        namespace: the namespace of the job.
        job: the name of the job.
        uid: the uid of the job.
        attempt: the first attempt to read.
        processes: the number of processes of a replica.
        replica: the index of the replica to read; None for all.
    """

    connection: Connection
    namespace: str
    job: str
    uid: str
    attempt: int
    processes: int
    replica: int | None = None
    _seen: set[str] = field(default_factory=set)  # uids of the pods that are read, or were

    async def show(self, put: Put[LogLine]) -> None:
        """Put the lines so far of all pods, replica by replica."""
        found = map(_placed, filter(self._is_next, await self._pods()))
        for _, pod in sorted(found, key=itemgetter(0)):
            await self._copy(pod, put, follow=False)

    async def follow(self, put: Put[LogLine], finished: Coroutine[Any, Any, object]) -> None:
        """Put lines as they are written, until the job has finished.

        Args:
            put: takes a line.
            finished: ends when the job has finished.
        """
        try:
            async with asyncio.TaskGroup() as tasks:

                def see(pods: Iterable[View]) -> None:
                    for pod in filter(self._is_next, pods):
                        tasks.create_task(self._copy(pod, put, follow=True))

                watching = tasks.create_task(self._watch(see))
                await finished
                watching.cancel()
                see(await self._pods())  # those whose events the watch has not brought yet
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _watch(self, see: Callable[[Iterable[View]], None]) -> None:
        async for change in self._stream().changes():
            see(change.objects if isinstance(change, Listed) else (change.object,))

    async def _pods(self) -> list[View]:
        return [pod async for page in self._stream().pages() for pod in page.objects]

    def _stream(self) -> Stream:
        selector = ",".join(f"{k}={v}" for k, v in names.pod_selector(self.job, self.uid).items())
        return pod_stream(self.connection, self.namespace, selector)

    def _is_next(self, pod: View) -> bool:
        """Whether a pod is to be read from now on; afterwards it is known."""
        place, uid = names.parse_pod_name(pod["metadata"]["name"]), pod["metadata"]["uid"]
        if place is None or names.owner_uid(pod) != self.uid or uid in self._seen:
            return False
        attempt, replica = place
        is_chosen = attempt >= self.attempt and self.replica in (None, replica)
        if is_chosen and has_begun(pod):
            self._seen.add(uid)
            return True
        return False

    async def _copy(self, pod: View, put: Put[LogLine], *, follow: bool) -> None:
        (attempt, replica), _ = _placed(pod)
        rank = replica if self.processes == 1 else None
        try:
            async for lines in read_log(self.connection, self.namespace, pod, follow=follow):
                for line in lines:
                    await put(LogLine(attempt=attempt, replica=replica, rank=rank, text=line.text))
        except NotFound:  # the pod was deleted since it was seen
            return


def _placed(pod: View) -> tuple[tuple[int, int], View]:
    """Return the attempt and the replica of a pod, and the pod."""
    place = names.parse_pod_name(pod["metadata"]["name"])
    return place or (0, 0), pod
