"""Keeps from kopf what it cannot read.

Kopf ends, and the operator with it, at a line that it cannot decode, at an object nested deeper
than Python's decoder goes, and at every watch error but one. So its session uses this response
class: a job is one text to kopf, which copies all of a job at each event, and a line that cannot be
read becomes the error (410) after which kopf lists again.
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

from acceleratedjob.api import Manifest
from acceleratedjob.bounds import METADATA, bounded
from acceleratedjob.kube.decoding import decode
from acceleratedjob.kube.stream import GapError, read_event
from acceleratedjob.queue import Backoff

log = logging.getLogger(__name__)

_LIST_AGAIN = json.dumps({"type": "ERROR", "object": {"code": 410}}).encode() + b"\n"
_PACKED = "packed"  # the key of a job's text
_SHORT_LIFE = 1.0  # seconds; kopf opens the next watch at once, and a server may end it at once


def packed(job: Any) -> Any:
    """A job as kopf sees it: who it is, and all of it as one text, which kopf copies at no cost."""
    if not isinstance(job, dict) or "metadata" not in job:  # a list may be of anything
        return job
    metadata = {name: job["metadata"][name] for name in METADATA if name in job["metadata"]}
    named = {name: job[name] for name in ("apiVersion", "kind") if name in job}
    return named | {"metadata": metadata, _PACKED: json.dumps(bounded(job))}


def unpacked(job: Mapping[str, Any]) -> Manifest:
    """The job that was packed; its kind is known to kopf only, where it comes from a list."""
    found: Manifest = json.loads(job[_PACKED])
    return {**{name: job[name] for name in ("apiVersion", "kind") if name in job}, **found}


@dataclass(slots=True)
class Pauses:
    """How long to wait where kopf would ask again at once; for each path, longer and longer."""

    backoff: Backoff = field(default_factory=lambda: Backoff(initial=0.5, maximum=20))

    async def take(self, path: str, why: object) -> None:
        """Say why, and wait."""
        seconds = self.backoff.next(path)
        log.warning("jobs=%s retry=%gs %s", path, seconds, why)
        await asyncio.sleep(seconds)

    def end(self, path: str) -> None:
        """All is well again."""
        self.backoff.reset(path)


@dataclass(slots=True)
class Lines:
    """A watch's stream of bytes, of which each line can be read."""

    reader: aiohttp.StreamReader
    path: str
    pauses: Pauses

    def exception(self) -> BaseException | None:
        """What has ended the stream, if anything."""
        return self.reader.exception()

    def set_exception(self, error: BaseException, *cause: BaseException) -> None:
        """End the stream."""
        self.reader.set_exception(error, *cause)

    async def read(self, n: int = -1) -> bytes:
        """The bytes as they come."""
        return await self.reader.read(n)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        """The lines, whole."""
        began = time.monotonic()
        while line := await self.reader.readline(max_line_length=sys.maxsize):
            yield await self._readable(line)
            await asyncio.sleep(0)  # lines that have come already would be taken in one turn
        if time.monotonic() - began < _SHORT_LIFE:
            await self.pauses.take(self.path, "the watch has ended as soon as it began")

    async def _readable(self, line: bytes) -> bytes:
        try:
            type_, job = await read_event(line)
        except GapError as error:
            await self.pauses.take(self.path, error)
            return _LIST_AGAIN
        self.pauses.end(self.path)
        return json.dumps({"type": type_, "object": packed(job)}).encode() + b"\n"


class Answer(aiohttp.ClientResponse):
    """An answer of which kopf reads only what it can."""

    pauses: Pauses

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin to read."""
        await super().start(connection)
        self.content: Any = Lines(self.content, self.url.path, self.pauses)
        return self

    async def json(self, **_options: Any) -> Any:
        """The whole answer, decoded.

        Raises:
            aiohttp.ClientPayloadError: it is nothing that kopf could use; it asks again after it.
        """
        body = await self.read()
        try:
            return await decode(body, packed)
        except ValueError as error:
            if not self.ok:  # kopf takes its text
                raise json.JSONDecodeError(str(error), "", 0) from error
            await self.pauses.take(self.url.path, f"must be answered with JSON: {error}")
            raise aiohttp.ClientPayloadError(str(error)) from error

    async def text(self, encoding: str | None = None, errors: str = "replace") -> str:
        """The whole answer, whatever its bytes are."""
        return await super().text(encoding, errors)


def answers(pauses: Pauses) -> type[Answer]:
    """The class of a session's answers, which wait alike."""
    return type("Answer", (Answer,), {"pauses": pauses})
