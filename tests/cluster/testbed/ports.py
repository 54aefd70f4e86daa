"""Ports that are kept for a server, also before it listens and while it is started again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """Have a port inside the block that the kernel gives to no other process that asks for one.

    It is bound, and nobody listens: who connects is refused. A server that sets SO_REUSEADDR, as
    those of Go and asyncio do, may listen there.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
