"""Servers that answer as no pod should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from acceleratedjob.local.process import LOOPBACK

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server of one kind; its port."""

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:  # the client has gone
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(quiet, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
