"""The proxy does to a connection what it says; no cluster is needed."""

import contextlib
import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.cluster.proxy import Proxy
from tests.cluster.testbed.processes import wait_until

PATIENCE = 0.3  # seconds without an answer that count as silence


def echo(listener: socket.socket) -> None:
    """Send back what comes, a thread for each connection."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(2**16):
                connection.sendall(data)

    with contextlib.suppress(OSError):  # the listener is closed at the end
        while True:
            threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


@pytest.fixture
def way() -> Iterator[Proxy]:
    """A proxy in front of an echo."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=[listener], daemon=True).start()
        made = Proxy(*listener.getsockname())
        made.start()
        yield made
        made.close()
        listener.shutdown(socket.SHUT_RDWR)


def dial(way: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", way.listens_on), timeout=120)


def said(connection: socket.socket, word: bytes) -> bytes:
    """What comes back for a word."""
    connection.sendall(word)
    return connection.recv(100)


def is_silent(connection: socket.socket, word: bytes) -> bool:
    """Whether nothing comes back for a word, and the connection stays."""
    connection.settimeout(PATIENCE)
    try:
        said(connection, word)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(120)
    return False


def test_words_pass_in_both_directions(way: Proxy) -> None:
    with dial(way) as connection:
        assert [said(connection, word) for word in (b"one", b"two")] == [b"one", b"two"]


def test_what_is_stopped_goes_on_where_it_was(way: Proxy) -> None:
    with dial(way) as connection:
        assert said(connection, b"one") == b"one"
        way.stop()
        assert is_silent(connection, b"two")
        way.forward()
        assert connection.recv(100) == b"two"


def test_what_is_dropped_is_lost(way: Proxy) -> None:
    with dial(way) as connection:
        assert said(connection, b"one") == b"one"
        way.drop()
        connection.sendall(b"two")
        wait_until(lambda: way.dropped == len(b"two"), what="the word that is lost", seconds=120)
        way.forward()
        assert said(connection, b"three") == b"three"


def test_what_is_delayed_comes(way: Proxy) -> None:
    with dial(way) as connection:
        way.delay(0.01)
        assert said(connection, b"one") == b"one"


def test_a_cut_ends_what_is_and_not_what_comes(way: Proxy) -> None:
    with dial(way) as connection:
        assert said(connection, b"one") == b"one"
        way.cut()
        with pytest.raises(ConnectionResetError):
            said(connection, b"two")
    with dial(way) as connection:
        assert said(connection, b"three") == b"three"


def test_who_is_refused_may_come_again_later(way: Proxy) -> None:
    way.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(way)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", way.listens_on))
    way.forward()
    with dial(way) as connection:
        assert said(connection, b"one") == b"one"


@pytest.mark.parametrize("stopped", [False, True], ids=["while all flows", "while all stands"])
def test_a_proxy_that_is_closed_leaves_nothing_that_complains(
    caplog: pytest.LogCaptureFixture, stopped: bool
) -> None:
    """Neither what it had accepted, nor what came in the moment of its end."""
    done = threading.Event()

    def knock(port: int) -> None:
        while not done.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection,
            ):
                said(connection, b"one")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=[listener], daemon=True).start()
        made = Proxy(*listener.getsockname())
        made.start()
        guests = [threading.Thread(target=knock, args=[made.listens_on]) for _ in range(4)]
        for guest in guests:
            guest.start()
        with dial(made) as connection:
            assert said(connection, b"one") == b"one"
            if stopped:
                made.stop()
            made.close()
        done.set()
        for guest in guests:
            guest.join()
        listener.shutdown(socket.SHUT_RDWR)
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
