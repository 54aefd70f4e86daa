"""A connection closes its sockets when it ends, also those whose server no longer reads."""

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from acceleratedjob.kube.client import connect
from tests.cluster.testbed.pki import Authority

ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"


@contextlib.contextmanager
def serving_once(authority: Authority) -> Iterator[str]:
    """A TLS server that begins one response, and from then on reads nothing; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("server"), authority.key("server"))
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as client:
            client.recv(65536)
            client.sendall(ANSWER)
            over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_stream_that_was_left_open_by_its_server_is_closed(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "pki")
    authority.sign("server", subject="/CN=server", alternatives="IP:127.0.0.1")

    async def read(host: str) -> bytes:
        configuration = Configuration()
        configuration.host, configuration.ssl_ca_cert = host, str(authority.certificate("ca"))
        async with connect(configuration) as link, link.open("GET", "/watch") as answer:
            return await answer.content.readline()

    with serving_once(authority) as host:
        assert asyncio.run(read(host)) == b"{}\n"
        gc.collect()  # pytest reports the sockets and transports that nobody has closed
