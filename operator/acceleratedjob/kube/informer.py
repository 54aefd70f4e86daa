"""Lists and watches a collection, without missing a change of its objects."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from acceleratedjob.api import names
from acceleratedjob.api.bounds import bounded
from acceleratedjob.api.names import Manifest
from acceleratedjob.cluster import Change, Changed, Gone, Listed
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.errors import ClusterError, NoAnswer, NotFound, Unavailable
from acceleratedjob.kube.client import Connection
from acceleratedjob.kube.decoding import decode
from acceleratedjob.kube.health import Pulse

log = logging.getLogger(__name__)

PAGE = 500  # objects per page of a list
JOBS_PAGE = 25  # jobs per page; jobs of the maximum size still fit into memory
SHORT_SECONDS = 1.0  # a watch that ends earlier, without an event, is restarted after a backoff


class GapError(Exception):
    """The watch cannot continue from its resource version, or cannot be read: list again."""


@dataclass(slots=True)
class Stream:
    """The changes of the objects of a collection, or of those that match a label selector.

    Attributes:
        connection: the connection to the API server.
        path: the path of the collection.
        kind: the kind of the objects.
        label: the label selector; None for all objects.
        pulse: when each watch last received something.
    """

    connection: Connection
    path: str
    kind: str
    label: str | None
    pulse: Pulse
    _version: str = ""  # the resource version of the last change
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        # Even if every request is rejected, a response arrives before the watch is considered dead.
        self._backoff = Backoff(initial=0.5, maximum=min(30, self.pulse.silence / 3))

    async def changes(self) -> AsyncIterator[Change]:
        """Yield the pages of a list, then the events of a watch; after a gap, start again."""
        while True:
            try:
                if not self._version:
                    async for page in self.pages():
                        yield page
                    self.pulse.complete(self.path)
                async for change in self._watch():
                    yield change
            except (GapError, NotFound) as error:
                self.pulse.hear(self.path)
                self._version = ""
                seconds = self._backoff.next(self.path)  # the kind may be missing for long
                log.info("watch=%s restarting in %g s: %s", self.path, seconds, error)
                await asyncio.sleep(seconds)
            except ClusterError as error:
                await asyncio.sleep(self._seconds_after(error))

    def _seconds_after(self, error: ClusterError) -> float:
        """Log an error, record whether it was a response, and return the seconds to wait."""
        seconds = self._backoff.next(self.path)
        if isinstance(error, NoAnswer):
            self.connection.contact.lost(error)
        else:
            log.warning("watch=%s retry=%gs %s", self.path, seconds, error)
        if not (isinstance(error, NoAnswer) and error.silent):
            self.pulse.hear(self.path)
        return seconds

    async def pages(self) -> AsyncIterator[Listed]:
        """List all objects at one resource version; only one page at a time is in memory.

        Raises:
            NotFound: the kind does not exist, or the list has expired between two pages.
            ClusterError: see `Connection.request`.
        """
        size, take = (JOBS_PAGE, bounded) if self.kind == names.KIND else (PAGE, None)
        params = {"labelSelector": self.label or "", "limit": str(size), "continue": ""}
        while True:
            answer = await self.connection.request("GET", self.path, params=params, take=take)
            self.pulse.hear(self.path)
            page, params["continue"] = self._page(answer)
            if page.more:
                yield page
                continue
            self._version = str(page.version)
            yield page
            return

    def _page(self, answer: Any) -> tuple[Listed, str]:
        """Return a page, and the token of the next page, which is empty after the last page."""
        try:
            token = answer["metadata"].get("continue") or ""
            objects = tuple(entry | {"kind": self.kind} for entry in answer["items"] or ())
            version = int(answer["metadata"]["resourceVersion"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            sentence = f"{self.path} must return a list of {self.kind} objects"
            raise Unavailable(f"{sentence}, got {str(answer)[:80]}") from error
        return Listed(objects, version=version, more=bool(token)), token

    async def _watch(self) -> AsyncIterator[Change]:
        params = {
            "watch": "true",
            "labelSelector": self.label or "",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self.pulse.watch_seconds),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.pulse.silence)
        began, clock = self._version, asyncio.get_running_loop().time
        async with self.connection.open("GET", self.path, params=params, timeout=timeout) as answer:
            opened = clock()
            self.pulse.hear(self.path)
            try:
                async for change in self._events(answer):
                    yield change
            finally:
                lived = clock() - opened >= SHORT_SECONDS
                if lived:
                    self._backoff.reset(self.path)
        if not lived and self._version == began:
            # As client-go's reflector does, for a server or proxy that ends each watch immediately.
            await asyncio.sleep(self._backoff.next(self.path))

    async def _events(self, answer: aiohttp.ClientResponse) -> AsyncIterator[Change]:
        """Yield the events of an open watch."""
        # JSON may be several times as long as the object in etcd: "<" takes six bytes.
        while line := await answer.content.readline(max_line_length=sys.maxsize):
            self.pulse.hear(self.path)
            change = await self._change(line)
            self._backoff.reset(self.path)
            if change is not None:
                yield change
            await asyncio.sleep(0)  # buffered lines would block the event loop

    async def _change(self, line: bytes) -> Change | None:
        """Decode an event, and record its resource version; None for a bookmark.

        Raises:
            GapError: the line is an error event, or cannot be read.
        """
        type_, manifest = await read_event(line)
        self._version = manifest["metadata"]["resourceVersion"]
        if type_ == "BOOKMARK":
            return None
        return Gone(manifest) if type_ == "DELETED" else Changed(manifest)


async def read_event(line: bytes) -> tuple[str, Manifest]:
    """Return the type and the object of a watch event.

    Raises:
        GapError: the line is an error event, or not an event.
    """
    try:
        event = await decode(line)
        type_, manifest = event["type"], event["object"]
        if type_ == "ERROR":
            raise GapError(manifest.get("message"))
        manifest["metadata"]["resourceVersion"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        sentence = f"a line of {len(line)} bytes must be an event, and is not"
        raise GapError(f"{sentence} ({type(error).__name__}): {line[:80]!r}") from error
    return type_, manifest
