"""The other side of a connection, for tests: what was asked, and what is answered to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from acceleratedjob.kube.client import Connection, connect

Answer = Callable[[web.Request], Any]  # awaited; gives a response


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Connection]:
    """A connection to a server that answers every request in one way."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with connect(configuration) as link:
            yield link
    finally:
        await runner.cleanup()
