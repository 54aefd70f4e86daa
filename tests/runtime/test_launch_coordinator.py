"""The coordinator in the launcher: when it ends."""

import threading

import pytest

from runtime.launch import coordinator
from runtime.launch.plan import Pod

LONG = 600.0  # seconds, longer than this test may take


def closing(nodes: int) -> threading.Thread:
    """The end of the coordinator of a job whose ranks have never connected, which has begun."""
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
    thread = threading.Thread(target=control.close, daemon=True)
    thread.start()
    return thread


def test_waits_for_nobody_if_all_processes_were_the_launchers_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordinator, "_LINGER_SECONDS", LONG)
    thread = closing(nodes=1)
    thread.join(60)
    assert not thread.is_alive()


def test_waits_for_the_goodbyes_of_other_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "_LINGER_SECONDS", 0.5)
    thread = closing(nodes=2)
    thread.join(0.1)
    assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
