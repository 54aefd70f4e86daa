"""A small client of the API server, the same for all ways: none is measured through its own."""

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

IN_FLIGHT = 64  # requests side by side
MERGE = "application/merge-patch+json"
# The objects' names and nothing of their content: less for the server to write, for us to read.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
WHOLE = "application/json"
Event = Mapping[str, Any]  # of a watch: its type, and its object
Post = tuple[str, bytes]  # a collection's path, and the object that is created in it
LINE = 4 * 2**20  # a watch sends an object a line
DELETION = b'{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}'


class RequestFailed(RuntimeError):
    """The API server has refused what the benchmark asked for."""


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks to one API server as its administrator."""

    session: aiohttp.ClientSession
    gate: asyncio.Semaphore

    async def send(self, method: str, path: str, body: bytes | None = None, **more: Any) -> bytes:
        """Send a request; the answer's body."""
        async with self.gate, self._open(method, path, body, **more) as answer:
            return await answer.read()

    async def get(self, path: str, **params: str) -> Any:
        """An object or a list, as JSON."""
        return json.loads(await self.send("GET", path, params=params))

    async def create(self, posts: Iterable[Post]) -> None:
        """Create objects side by side; the answers say only who they are."""
        async with asyncio.TaskGroup() as group:  # one that is refused ends all
            for path, body in posts:
                group.create_task(self.send("POST", path, body, headers={"Accept": METADATA}))

    async def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """Change an object."""
        await self.send("PATCH", path, encoded(change), headers={"Content-Type": MERGE})

    async def delete(self, path: str) -> None:
        """Delete an object, and in the background what it owns."""
        await self.send("DELETE", path, DELETION)

    @contextlib.asynccontextmanager
    async def watch(
        self, path: str, *, accept: str = METADATA, **params: str
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The changes from here on; the watch is there before the block begins."""
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
                raise RequestFailed(f"{method} {path} must be done, got {answer.status}: {text}")
            yield answer


async def _events(
    answer: aiohttp.ClientResponse,
    opened: Callable[[], Awaitable[aiohttp.ClientResponse]],
    query: dict[str, str],
) -> AsyncIterator[Event]:
    """A watch's events; a server that is busy ends it now and then, and it goes on from there."""
    while True:
        async for line in answer.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise RequestFailed(f"a watch must go on, got {event['object']}")
            query["resourceVersion"] = event["object"]["metadata"]["resourceVersion"]
            yield event
        answer = await opened()


def encoded(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it is sent."""
    return json.dumps(manifest, separators=(",", ":")).encode()


@contextlib.asynccontextmanager
async def connected(plane: ControlPlane) -> AsyncIterator[Client]:
    """A client that is closed at the end."""
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
