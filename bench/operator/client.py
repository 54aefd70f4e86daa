"""A small client of the API server, which the measurements of all ways use."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from tests.cluster.testbed.controlplane import ControlPlane

IN_FLIGHT = 64  # concurrent requests
MERGE = "application/merge-patch+json"
# The metadata of objects only, which costs the API server and this client less CPU time.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
WHOLE = "application/json"
Event = Mapping[str, Any]  # an event of a watch: a type and an object
Post = tuple[str, bytes]  # the path of a collection, and the object to create in it
LINE = 4 * 2**20  # bytes; a watch sends one object per line
DELETION = b'{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}'


class RequestFailed(RuntimeError):
    """The API server has rejected a request of the benchmark."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client of an API server, with the permissions of an administrator.

    Attributes:
        session: the HTTP session.
        gate: limits the number of concurrent requests.
    """

    session: aiohttp.ClientSession
    gate: asyncio.Semaphore

    async def send(self, method: str, path: str, body: bytes | None = None, **more: Any) -> bytes:
        """Send a request, and return the body of the response."""
        async with self.gate, self._open(method, path, body, **more) as answer:
            return await answer.read()

    async def get(self, path: str, **params: str) -> Any:
        """Return an object or a list, decoded from JSON."""
        return json.loads(await self.send("GET", path, params=params))

    async def create(self, posts: Iterable[Post]) -> None:
        """Create objects concurrently; the responses have metadata only."""
        async with asyncio.TaskGroup() as group:  # a rejected request cancels the others
            for path, body in posts:
                group.create_task(self.send("POST", path, body, headers={"Accept": METADATA}))

    async def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """Change an object by a merge patch."""
        await self.send("PATCH", path, encoded(change), headers={"Content-Type": MERGE})

    async def delete(self, path: str) -> None:
        """Delete an object, and its dependents in the background."""
        await self.send("DELETE", path, DELETION)

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, *, accept: str = METADATA, **params: str
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Yield the changes from now on; the watch is open before the block starts."""
        version = (await self.get(path, limit="1"))["metadata"]["resourceVersion"]
        query = params | {"watch": "true", "resourceVersion": version}
        async with contextlib.AsyncExitStack() as stack:

            async def opened() -> aiohttp.ClientResponse:
                headers = {"Accept": accept}
                opening = self._open("GET", path, None, params=query, timeout=None, headers=headers)
                return await stack.enter_async_context(opening)

            yield _events(await opened(), opened, query)

    @contextlib.asynccontextmanager
    async def _open(
        self, method: str, path: str, body: bytes | None, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Content-Type": "application/json"} | more.pop("headers", {})
        options = {"data": body, "headers": headers} | more
        async with self.session.request(method, path, **options) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST:
                text = (await answer.text())[:500]
                raise RequestFailed(f"{method} {path} must succeed, got {answer.status}: {text}")
            yield answer


async def _events(
    answer: aiohttp.ClientResponse,
    opened: Callable[[], Awaitable[aiohttp.ClientResponse]],
    query: dict[str, str],
) -> AsyncIterator[Event]:
    """Yield the events of a watch, which is reopened whenever a busy server ends it."""
    while True:
        async for line in answer.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise RequestFailed(f"a watch must continue, got {event['object']}")
            query["resourceVersion"] = event["object"]["metadata"]["resourceVersion"]
            yield event
        answer = await opened()


def encoded(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as JSON."""
    return json.dumps(manifest, separators=(",", ":")).encode()


@contextlib.asynccontextmanager
async def connected(plane: ControlPlane) -> AsyncIterator[Client]:
    """Open a client, which is closed at the end of the block."""
    authority = plane.authority
    context = ssl.create_default_context(cafile=authority.certificate("ca"))
    context.load_cert_chain(authority.certificate("admin"), authority.key("admin"))
    async with aiohttp.ClientSession(
        base_url=f"https://127.0.0.1:{plane.link.port}",
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        timeout=aiohttp.ClientTimeout(total=120),
        read_bufsize=LINE,
    ) as session:
        yield Client(session, asyncio.Semaphore(IN_FLIGHT))
