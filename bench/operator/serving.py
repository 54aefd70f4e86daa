"""Runs an HTTP server in another process, so that its CPU time and memory are not measured."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.contextmanager
def served(make: Callable[..., Handler], *arguments: Any) -> Iterator[int]:
    """Run a server inside the block; yields its port on the loopback interface.

    Args:
        make: a function of a module, which returns the handler of all requests. It is called in the
            process of the server.
        *arguments: the arguments of `make`.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(there, make, *arguments)
    )
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: "Pipe[int, None]", make: Callable[..., Handler], *arguments: Any) -> None:
    """Answer requests until the process is terminated."""

    async def go() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", make(*arguments))
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(go())
