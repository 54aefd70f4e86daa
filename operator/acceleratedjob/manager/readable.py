"""A response class for kopf's HTTP session that replaces content that kopf cannot read.

Kopf and the operator end if kopf receives a line that it cannot decode, an object nested deeper
than Python's decoder allows, or a watch error other than 410. This class replaces an unreadable
line by the error 410, after which kopf lists again. It also passes each job to kopf as one string,
because kopf copies the whole job at each event.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from acceleratedjob.api.bounds import METADATA, bounded
from acceleratedjob.api.names import Manifest
from acceleratedjob.controller.backoff import Backoff
from acceleratedjob.kube.decoding import decode
from acceleratedjob.kube.informer import GapError, read_event

log = logging.getLogger(__name__)

_LIST_AGAIN = json.dumps({"type": "ERROR", "object": {"code": 410}}).encode() + b"\n"
_PACKED = "packed"  # the key of the string that contains the job
_SHORT_LIFE = 1.0  # seconds; after a shorter watch there is a pause before kopf opens another


def packed(job: Any) -> Any:
    """Return the job to pass to kopf: its identity, and its whole manifest as one string."""
    if not isinstance(job, dict) or "metadata" not in job:  # an item of a list may be anything
        return job
    metadata = {name: job["metadata"][name] for name in METADATA if name in job["metadata"]}
    named = {name: job[name] for name in ("apiVersion", "kind") if name in job}
    return named | {"metadata": metadata, _PACKED: json.dumps(bounded(job))}


def unpacked(job: Mapping[str, Any]) -> Manifest:
    """Return the job that `packed` packed; kopf adds the kind, which items of a list lack."""
    found: Manifest = json.loads(job[_PACKED])
    return {**{name: job[name] for name in ("apiVersion", "kind") if name in job}, **found}


@dataclass(slots=True)
class Pauses:
    """Exponential backoff, by path, where kopf would repeat a request immediately.

    Attributes:
        backoff: the backoff.
    """

    backoff: Backoff = field(default_factory=lambda: Backoff(initial=0.5, maximum=20))

    async def take(self, path: str, why: object) -> None:
        """Log the reason, and wait."""
        seconds = self.backoff.next(path)
        log.warning("jobs=%s retry=%gs %s", path, seconds, why)
        await asyncio.sleep(seconds)

    def end(self, path: str) -> None:
        """Reset the backoff of a path."""
        self.backoff.reset(path)


@dataclass(slots=True)
class Lines:
    """The byte stream of a watch, in which kopf can read every line.

    Attributes:
        reader: the stream of the response.
        path: the path of the watch.
        pauses: the backoff before kopf lists or watches again.
    """

    reader: aiohttp.StreamReader
    path: str
    pauses: Pauses

    def exception(self) -> BaseException | None:
        """Return the error that ended the stream; None if there is none."""
        return self.reader.exception()

    def set_exception(self, error: BaseException, *cause: BaseException) -> None:
        """End the stream with an error."""
        self.reader.set_exception(error, *cause)

    async def read(self, n: int = -1) -> bytes:
        """Read bytes."""
        return await self.reader.read(n)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        """Iterate over whole lines."""
        began = time.monotonic()
        while line := await self.reader.readline(max_line_length=sys.maxsize):
            yield await self._readable(line)
            await asyncio.sleep(0)  # buffered lines would block the event loop
        if time.monotonic() - began < _SHORT_LIFE:
            await self.pauses.take(self.path, "the watch ended immediately")

    async def _readable(self, line: bytes) -> bytes:
        try:
            type_, job = await read_event(line)
        except GapError as error:
            await self.pauses.take(self.path, error)
            return _LIST_AGAIN
        self.pauses.end(self.path)
        return json.dumps({"type": type_, "object": packed(job)}).encode() + b"\n"


class Answer(aiohttp.ClientResponse):
    """A response whose content kopf can read."""

    pauses: Pauses

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Read the headers of the response."""
        await super().start(connection)
        self.content: Any = Lines(self.content, self.url.path, self.pauses)
        return self

    async def json(self, **_options: Any) -> Any:
        """Decode the whole response.

        Raises:
            aiohttp.ClientPayloadError: the response is not JSON; kopf repeats the request.
        """
        body = await self.read()
        try:
            return await decode(body, packed)
        except ValueError as error:
            if not self.ok:  # kopf then reads the response as text
                raise json.JSONDecodeError(str(error), "", 0) from error
            await self.pauses.take(self.url.path, f"the response is not JSON: {error}")
            raise aiohttp.ClientPayloadError(str(error)) from error

    async def text(self, encoding: str | None = None, errors: str = "replace") -> str:
        """Return the whole response as text; invalid bytes are replaced."""
        return await super().text(encoding, errors)


def answers(pauses: Pauses) -> type[Answer]:
    """Return a response class for a session; all of its responses share one backoff."""
    return type("Answer", (Answer,), {"pauses": pauses})
