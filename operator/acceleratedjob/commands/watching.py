"""`acceleratedjob status --watch`: shows each change of jobs."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Group

from acceleratedjob.api.names import View
from acceleratedjob.api.status import Status
from acceleratedjob.api.times import utc_now
from acceleratedjob.commands import screen, table
from acceleratedjob.commands.job_line import job_lines
from acceleratedjob.commands.objects import print_object
from acceleratedjob.commands.session import Session, exit_code
from acceleratedjob.commands.text import aligned
from acceleratedjob.errors import NotFound

# The minimum widths of the columns, because later lines are not known.
_WIDTHS = (24, 10, 7, 12, 8, 6, 8, 9, 10, 8, 8)
_NAMESPACE_WIDTH = 16
_PERIOD_SECONDS = 1.0  # in which the ages are drawn again


class Display(Protocol):
    """Shows jobs as they change."""

    def show(self, job: View, *, gone: bool) -> None:
        """Show a job that is new, has changed, or was deleted."""
        ...

    def running(self) -> AbstractAsyncContextManager["Display"]:
        """Return a context inside which the jobs are shown."""
        ...


@dataclass(slots=True)
class Lines:
    """Prints a line for each change, for a pipe.

    Attributes:
        namespaces: whether the lines contain the namespace.
        out: where the lines are printed.
    """

    namespaces: bool
    out: TextIO = field(default_factory=lambda: sys.stdout)
    _shown: dict[str, list[str]] = field(default_factory=dict)  # by uid

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Lines"]:
        """Print the header."""
        self._print([self._line(table.header(namespaces=self.namespaces, columns=table.WATCHED))])
        yield self

    def show(self, job: View, *, gone: bool) -> None:
        """Print the job, unless nothing has changed that is shown."""
        row = table.row(
            job, utc_now(), namespaces=self.namespaces, gone=gone, columns=table.WATCHED
        )
        told = [f"  {type_}: {message}" for type_, message in table.notes(job)]
        lines, before = [self._line(row), *told], self._shown.get(job["metadata"]["uid"], [])
        if lines != before:
            self._shown[job["metadata"]["uid"]] = lines
            self._print([lines[0], *(one for one in told if one not in before)])

    def _line(self, row: table.Row) -> str:
        widths = (_NAMESPACE_WIDTH, *_WIDTHS) if self.namespaces else _WIDTHS
        return aligned([row], widths)[0]

    def _print(self, lines: list[str]) -> None:
        print(*lines, sep="\n", file=self.out, flush=True)


@dataclass(slots=True)
class Objects:
    """Prints a job as an object at each change.

    Attributes:
        form: `json`, one line for each change, or `yaml`.
        out: where the objects are printed.
    """

    form: str
    out: TextIO = field(default_factory=lambda: sys.stdout)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Objects"]:
        """Print nothing before the first object."""
        yield self

    def show(self, job: View, *, gone: bool) -> None:  # noqa: ARG002  # the metadata says so
        """Print the job."""
        if self.form == "json":
            self.out.write(json.dumps(job) + "\n")
        else:
            self.out.write("---\n")
            print_object(job, self.form, self.out)
        self.out.flush()


class Screen:
    """Draws the lines of all jobs again, on a terminal."""

    def __init__(self, out: TextIO, *, namespaces: bool) -> None:
        """Create a screen without jobs.

        Args:
            out: the terminal.
            namespaces: whether the lines contain the namespace.
        """
        self._namespaces = namespaces
        self._console = screen.console(out)
        self._live = screen.live(self._console, "", transient=False)
        self._jobs: dict[str, View] = {}  # by uid
        self._gone: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Screen"]:
        """Draw the lines each second, because they contain ages; leave them at the end."""
        drawing = asyncio.create_task(self._keep_drawing())
        try:
            with self._live:
                yield self
        finally:
            drawing.cancel()

    def show(self, job: View, *, gone: bool) -> None:
        """Draw the job; one that is gone is drawn until another takes its name."""
        uid = job["metadata"]["uid"]
        same = [one for one in self._gone if _address(self._jobs[one]) == _address(job)]
        for other in same:
            self._gone.discard(other)
            del self._jobs[other]
        self._jobs[uid] = job
        self._gone |= {uid} if gone else set()
        self._draw()

    async def _keep_drawing(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            self._draw()

    def _draw(self) -> None:
        now, drawn = utc_now(), []
        for uid, job in self._jobs.items():
            space = job["metadata"]["namespace"] if self._namespaces else ""
            width, gone = self._console.width, uid in self._gone
            drawn += job_lines(job, now, width=width, gone=gone, space=space)
        self._live.update(Group(*map(screen.styled, drawn)), refresh=True)


def _address(job: View) -> tuple[str, str]:
    return job["metadata"]["namespace"], job["metadata"]["name"]


def display(out: TextIO, *, namespaces: bool, form: str | None = None) -> Display:
    """Return what shows jobs: objects, lines that are drawn again on a terminal, or lines."""
    if form in ("json", "yaml"):
        return Objects(form, out)
    if screen.is_live(out):
        return Screen(out, namespaces=namespaces)
    return Lines(namespaces, out)


async def watch(session: Session, shown: Display) -> int:
    """Show each change; a single job is followed until it has finished, and gives the exit code.

    Raises:
        NotFound: the single job was deleted.
    """
    async with shown.running():
        async for job, gone in session.changes():
            shown.show(job, gone=gone)
            if session.name is not None and gone:
                raise NotFound(f"{session.name} was deleted")
            if session.name is not None and Status.from_manifest(job).finished:
                return exit_code(job)
    raise AssertionError  # a watch does not end
