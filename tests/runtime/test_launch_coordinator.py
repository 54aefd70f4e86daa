"""The coordinator in the launcher: when it ends."""

import socket
import threading

import pytest

from runtime.control.agreement.messages import Bye
from runtime.control.lines import written
from runtime.control.server import Server
from runtime.control.wire import encode
from runtime.launch import coordinator
from runtime.launch.plan import Pod

LONG = 600.0  # seconds, longer than this test may take


def closing(nodes: int) -> tuple[Server, threading.Thread]:
    """The coordinator of a job whose ranks have never connected; its end, which has begun."""
    pod = Pod(
        argv=[],
        env={},
        processes="1",
        nodes=nodes,
        node_rank=0,
        master_addr="127.0.0.1",
        master_port=29500,
    )
    control = coordinator.control_of(pod, 1, {})
    control.start()
    assert isinstance(control, coordinator.Coordinator)
    assert control._server is not None
    thread = threading.Thread(target=control.close, daemon=True)
    thread.start()
    return control._server, thread


def test_waits_for_nobody_if_all_processes_were_the_launchers_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinator, "_LINGER_SECONDS", LONG)
    _, thread = closing(nodes=1)
    thread.join(60)
    assert not thread.is_alive()


def test_waits_for_the_goodbyes_of_other_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_LINGER_SECONDS", LONG)
    server, thread = closing(nodes=2)
    for rank in range(2):
        thread.join(0.1)
        assert thread.is_alive()
        said = [encode(server.identity.hello(rank)), encode(Bye())]
        with socket.create_connection(("127.0.0.1", server.port), 60) as sock:
            sock.sendall(b"".join(map(written, said)))
    thread.join(60)
    assert not thread.is_alive()


def test_does_not_wait_for_ever_for_the_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_LINGER_SECONDS", 0.1)
    _, thread = closing(nodes=2)
    thread.join(60)
    assert not thread.is_alive()
