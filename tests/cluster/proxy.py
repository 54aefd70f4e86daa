"""A small TCP proxy for tests: what stands between an operator and its API server, and fails.

It runs in a thread of its own, so that both plain tests and those on an event loop can use it. With
an authority's certificate it ends TLS on both sides and notes which requests pass through.
"""

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.testbed.controlplane import ControlPlane
from tests.cluster.testbed.ports import reserved_port

_REQUEST = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) \S+(?= HTTP/1\.1\r\n)")
_CHUNK = 2**16
_ROUNDS = 10  # of the loop, in which what was aborted closes its sockets
_RESET = struct.pack("ii", 1, 0)  # on, 0 s: closing sends a reset, not an end


@dataclass(slots=True)
class Proxy:
    """Forwards every connection to one server, until told otherwise; all methods wait for it.

    Made by `proxy` or `recorder`.
    """

    host: str
    port: int
    server_tls: ssl.SSLContext | None = None  # towards who connects
    client_tls: ssl.SSLContext | None = None  # towards the server
    requests: list[str] = field(default_factory=list)  # "GET /path?query", if TLS ends here
    dropped: int = 0  # bytes
    listens_on: int = 0
    _place: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # of its port
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _seconds: float = 0
    _swallows: bool = False
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _listener: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def forward(self) -> None:
        """Be a good proxy (again): what was stopped goes on, refused connections are accepted."""
        self._run(self._forward())

    def delay(self, seconds: float) -> None:
        """Hold back every piece of data for so long, both ways."""
        self._seconds = seconds

    def stop(self) -> None:
        """Forward nothing any more, and close nothing: to both sides the other one is silent."""
        self._run(self._stop())

    def drop(self) -> None:
        """Throw away what comes, both ways, and close nothing; `forward` cannot make it good."""
        self._swallows = True

    def cut(self) -> None:
        """Reset all connections; new ones are forwarded."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones."""
        self._run(self._refuse())

    def close(self) -> None:
        """End the proxy, and its thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._place.close()

    def kubeconfig(self, original: Path, folder: Path) -> Path:
        """A copy of a kubeconfig that goes through this proxy."""
        told = json.loads(original.read_text())
        for entry in told["clusters"]:
            entry["cluster"]["server"] = f"https://127.0.0.1:{self.listens_on}"
        path = folder / f"through-{self.listens_on}.conf"
        path.write_text(json.dumps(told))
        return path

    def start(self) -> None:
        """Listen, in a thread of its own, at a port that nobody takes while it refuses."""
        self.listens_on = self._place.enter_context(reserved_port())
        threading.Thread(target=self._serve, daemon=True).start()
        self.forward()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=120)

    async def _forward(self) -> None:
        self._seconds, self._swallows = 0, False
        self._flowing.set()
        if self._listener is None:
            where = {"host": "127.0.0.1", "port": self.listens_on}
            self._listener = await asyncio.start_server(self._begin, ssl=self.server_tls, **where)  # type: ignore[arg-type]  # a str and an int

    async def _stop(self) -> None:
        self._flowing.clear()

    async def _refuse(self) -> None:
        if self._listener is not None:
            for line in self._listener.sockets:
                self._loop.remove_reader(line.fileno())
            await asyncio.sleep(0)  # a closed server loses what it has accepted and not begun yet
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in self._writers:
            line = None if writer.transport.is_closing() else writer.get_extra_info("socket")
            if line is not None and line.fileno() >= 0:  # else it is closed already
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _close(self) -> None:
        """Leave nothing on the loop: what is pending when it closes complains when it is freed."""
        await self._refuse()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await self._cut()  # what was accepted meanwhile
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin a connection in a task of ours; asyncio's own takes no cancellation.

        Before Python 3.12 it asks each task for its exception, and raises that of a cancelled one.
        """
        task = self._loop.create_task(self._accept(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._open(writer), contextlib.suppress(OSError):
            there = await asyncio.open_connection(self.host, self.port, ssl=self.client_tls)
            with self._open(there[1]):
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, there[1], self._note))
                    pumps.create_task(self._pump(there[0], writer, lambda _data: None))

    @contextlib.contextmanager
    def _open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        note: Callable[[bytes], None],
    ) -> None:
        """Carry data one way until its end, which is carried too, or until a side is lost."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                note(data)
                await asyncio.sleep(self._seconds)
                await self._flowing.wait()
                if self._swallows:
                    self.dropped += len(data)
                    continue
                writer.write(data)
                await writer.drain()
            writer.close()

    def _note(self, data: bytes) -> None:
        if self.server_tls is not None:
            self.requests += (line.decode() for line in _REQUEST.findall(data))


@contextlib.contextmanager
def proxy(kubeconfig: Path) -> Iterator[Proxy]:
    """A proxy in front of a kubeconfig's API server; TLS passes through."""
    (cluster,) = json.loads(kubeconfig.read_text())["clusters"]
    address = urlsplit(cluster["cluster"]["server"])
    assert address.hostname
    assert address.port
    with _started(Proxy(address.hostname, address.port)) as made:
        yield made


@contextlib.contextmanager
def recorder(plane: ControlPlane) -> Iterator[Proxy]:
    """A proxy that ends TLS, acts as the administrator, and notes what is asked for."""
    authority = plane.authority
    towards_client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    towards_client.load_cert_chain(authority.certificate("server"), authority.key("server"))
    towards_server = ssl.create_default_context(cafile=authority.certificate("ca"))
    towards_server.load_cert_chain(authority.certificate("admin"), authority.key("admin"))
    made = Proxy("127.0.0.1", plane.link.port, towards_client, towards_server)
    with _started(made) as running:
        yield running


@contextlib.contextmanager
def _started(made: Proxy) -> Iterator[Proxy]:
    made.start()
    try:
        yield made
    finally:
        made.close()
