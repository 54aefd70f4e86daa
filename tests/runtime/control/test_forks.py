"""A forked child, such as a worker of a data loader, keeps neither the port nor a connection."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runtime.control.agent import Address, Agent
from runtime.control.identity import Identity
from tests.runtime.control.ranks import LOOPBACK, SECONDS, beat, coordinator

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12


@contextmanager
def child() -> Iterator[None]:
    """A fork of this process, which waits as long as the block runs."""
    ready, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(begun, b"\0")
        signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(begun)


def test_a_forked_child_does_not_keep_the_port() -> None:
    with coordinator(1) as server, child():
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, server.port), SECONDS)


def test_a_forked_child_does_not_keep_a_connection() -> None:
    own = Identity(uid="uid", attempt=0, size=1)
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], own.life)
        agent = Agent(lambda: address, beat, own=own, rank=0)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(SECONDS)
            assert connection.recv(4096).startswith(b'{"kind":"hello"')
            with child():
                agent.close()
                rest = b"".join(iter(lambda: connection.recv(4096), b""))
    assert rest.endswith(b'\n{"kind":"bye"}\n')
