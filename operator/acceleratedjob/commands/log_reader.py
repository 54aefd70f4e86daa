"""Reads the logs of the pods of a job, once or continuously."""

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TextIO

from acceleratedjob.api import names
from acceleratedjob.api.names import View
from acceleratedjob.cluster import Change, Gone, Listed
from acceleratedjob.commands.log_choice import Choice, Wish, choose, mixed
from acceleratedjob.commands.screen import has_color
from acceleratedjob.commands.session import Session
from acceleratedjob.errors import ClusterError, NotFound
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.informer import Stream
from acceleratedjob.kube.logs import pod_stream, read_log
from acceleratedjob.observe.containers import has_begun
from acceleratedjob.terminal import complain


def wants_colour(wish: str, out: TextIO) -> bool:
    """Whether lines are colored: as the flag says; with `auto`, if the output is a terminal."""
    if wish != "auto":
        return wish == "always"
    return has_color(out)


async def logs(session: Session, *, wish: Wish, follow: bool, colour: str) -> int:
    """Print logs, and return the exit code.

    Args:
        session: the job.
        wish: which logs.
        follow: whether new lines are printed until the containers end.
        colour: `auto`, `always` or `never`.

    Raises:
        Misuse: the job has no such rank, replica or attempt.
        ClusterError: a log cannot be read.
    """
    job = await session.read()
    choice = choose(job, wish, session.hint("why"))
    sentence = "" if wish.rank is None else mixed(choice, wish.rank)
    if sentence:
        complain(f"note: {sentence}")
    reader = Reader(
        connection=session.cluster.connection,
        namespace=session.namespace,
        choice=choice,
        uid=job["metadata"]["uid"],
        colour=wants_colour(colour, sys.stdout),
        hint=session.hint("why"),
    )
    await (reader.follow() if follow else reader.show())
    return 0


@dataclass(slots=True, kw_only=True)
class Reader:
    """Prints the logs of the selected replicas.

    Attributes:
        connection: the connection to the API server.
        namespace: the namespace of the job.
        choice: the selected replicas.
        uid: the uid of the job.
        colour: whether lines are colored.
        hint: the command that explains the state of the job.
        out: where the lines are printed.
    """

    connection: Connection
    namespace: str
    choice: Choice
    uid: str
    colour: bool
    hint: str = "`acceleratedjob why`"
    out: TextIO = field(default_factory=lambda: sys.stdout)
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # by replica index
    _gone: set[int] = field(default_factory=set)  # replicas whose pods were deleted before a start

    async def show(self) -> None:
        """Print the logs so far, replica by replica.

        Raises:
            NotFound: no pod of the attempt exists, or none has started.
            ClusterError: a log cannot be read; those that can be read are printed first.
        """
        pages = self._stream().pages()
        pods = [pod async for page in pages for pod in page.objects]
        found = dict(sorted(pair for pod in pods for pair in self._chosen(pod)))
        begun = {index: pod for index, pod in found.items() if has_begun(pod)}
        if not begun:
            state = "no container has started" if found else "its pods no longer exist"
            raise NotFound(
                f"no log of attempt {self.choice.attempt}: {state}; "
                f"{self.hint} explains the state of the job"
            )
        errors = []
        for index, pod in begun.items():
            try:
                await self._copy(index, pod, follow=False)
            except ClusterError as error:  # a pod or node is gone: print the other logs first
                errors.append(error)
        if errors:
            raise errors[0]

    async def follow(self) -> None:
        """Print lines as they are written, until all selected containers have terminated."""
        watching = asyncio.ensure_future(self._watch())
        try:
            await watching
            await asyncio.gather(*self._tasks.values())
        finally:
            for task in (watching, *self._tasks.values()):
                task.cancel()

    async def _watch(self) -> None:
        """Read each log once its container starts; return when all have started or are gone."""
        async for change in self._stream().changes():
            self._take(change)
            failed = [one for one in self._tasks.values() if one.done() and one.exception()]
            if failed or {*self._tasks, *self._gone} >= {*self.choice.indices}:
                return

    def _take(self, change: Change) -> None:
        pods = change.objects if isinstance(change, Listed) else (change.object,)
        for pod in pods:
            for index, _ in self._chosen(pod):
                if index in self._tasks:
                    continue
                if has_begun(pod):
                    copying = self._copy(index, pod, follow=True)
                    self._tasks[index] = asyncio.ensure_future(copying)
                elif isinstance(change, Gone):
                    self._gone.add(index)

    def _stream(self) -> Stream:
        return pod_stream(self.connection, self.namespace, self.choice.selector)

    def _chosen(self, pod: View) -> list[tuple[int, View]]:
        """Return a pod with its index, if the pod belongs to the job and is selected."""
        place = names.parse_pod_name(pod["metadata"]["name"])
        is_ours = place is not None and names.owner_uid(pod) == self.uid
        return [(place[1], pod)] if place and is_ours and place[1] in self.choice.indices else []

    async def _copy(self, index: int, pod: View, *, follow: bool) -> None:
        prefix = self.choice.prefix(index, colour=self.colour)
        async for lines in read_log(self.connection, self.namespace, pod, follow=follow):
            self.out.writelines(f"{prefix}{line.text}\n" for line in lines)
            self.out.flush()
