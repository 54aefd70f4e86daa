"""The control channel between threads that stand for ranks: real sockets, real time."""

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from runtime.control import server as servers
from runtime.control.agent import Address, Agent
from runtime.control.beat import Beat, Phase
from runtime.control.lines import written
from runtime.control.place import Place
from runtime.control.server import Server
from runtime.control.wire import encode
from tests.runtime.control.ranks import (
    FOREVER,
    LOOPBACK,
    QUICK,
    SECONDS,
    Acted,
    Proxy,
    Training,
    coordinator,
    direct,
    ended,
    until,
)


def noticing(at: int, *ranks: int, seconds: float = 600.0) -> Callable[[int, int, Agent], None]:
    """Return a function that asks to stop at a step of some ranks."""

    def on_step(rank: int, step: int, agent: Agent) -> None:
        if step == at and rank in ranks:
            agent.notice(time.monotonic() + seconds, "test")

    return on_step


def same_for_all(training: Training) -> list[Acted]:
    """Return what all ranks did, which must be the same."""
    first, *others = training.acted.values()
    assert all(one == first for one in others), training.acted
    assert len(set(training.reached.values())) == 1, training.reached
    return first


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [(0,), (-1,), (0, -1)], ids=["first", "last", "both"])
def test_a_notice_at_any_rank_stops_all_ranks_at_the_same_step(
    size: int, ranks: tuple[int, ...]
) -> None:
    chosen = {rank % size for rank in ranks}
    with coordinator(size) as server:
        training = Training(
            size, FOREVER, server, direct(server), lambda _: 0.002, noticing(20, *chosen)
        )
        training.run()
        acted = same_for_all(training)
    assert [one.action for one in acted] == ["stop"]
    assert acted[0].step > 20


def test_a_notice_to_the_coordinator_stops_all_ranks() -> None:
    with coordinator(2) as server:

        def on_step(rank: int, step: int, _: Agent) -> None:
            if (rank, step) == (0, 20):
                server.notice(600.0, "test")

        training = Training(2, FOREVER, server, direct(server), lambda _: 0.002, on_step)
        training.run()
        assert [one.action for one in same_for_all(training)] == ["stop"]


def test_all_ranks_save_at_the_same_steps_and_go_on() -> None:
    def on_step(rank: int, step: int, agent: Agent) -> None:
        """Wish for two saves, then for the end."""
        if rank or step % 20:
            return
        if len(training.acted[0]) < 2:
            agent.wish_to_save()
        else:
            training.steps = min(training.steps, step + 20)

    with coordinator(3) as server:
        training = Training(3, FOREVER, server, direct(server), lambda _: 0.002, on_step)
        training.run()
        acted = same_for_all(training)
    assert {one.action for one in acted} == {"save"}
    assert len(acted) >= 2
    assert set(training.reached.values()) == {training.steps}


def test_ranks_leave_without_a_checkpoint_if_it_takes_longer_than_what_is_left() -> None:
    def on_step(rank: int, step: int, agent: Agent) -> None:
        if rank == 0 and step == 10:
            agent.checkpointed(5, 100.0)
        if rank == 1 and step == 100:
            agent.notice(time.monotonic() + 20, "test")

    with coordinator(2) as server:
        training = Training(2, FOREVER, server, direct(server), lambda _: 0.002, on_step)
        training.run()
        assert [one.action for one in same_for_all(training)] == ["leave"]


def test_nothing_stops_the_training_while_a_rank_cannot_connect() -> None:
    with coordinator(2) as server:
        address = _only_for_the_first(direct(server))
        training = Training(2, 300, server, address, lambda _: 0.001, noticing(20, 0))
        training.run()
    assert same_for_all(training) == []
    assert set(training.reached.values()) == {300}


def _only_for_the_first(found: Callable[[], Address | None]) -> Callable[[], Address | None]:
    """Return an address to the first thread that asks, and to no other."""
    asked: list[int] = []
    lock = threading.Lock()

    def address() -> Address | None:
        with lock:
            if not asked:
                asked.append(threading.get_ident())
        return found() if asked[0] == threading.get_ident() else None

    return address


@pytest.mark.parametrize("seed", range(6))
def test_a_channel_that_is_cut_slow_or_fed_garbage_changes_nothing_in_the_training(
    seed: int,
) -> None:
    """All act at the same step, or a rank fails because it was ready and heard no decision."""
    chance = random.Random(seed)
    with coordinator(2, QUICK) as server:
        proxy = Proxy(server, seed, cuts=0.05, garbage=0.03)

        def on_step(rank: int, step: int, agent: Agent) -> None:
            if step == 50 and rank == 0:
                agent.wish_to_save()
            if step == 400 and rank == 1:
                agent.notice(time.monotonic() + 30, "test")

        training = Training(
            2, 1500, server, proxy.address, lambda _: chance.random() * 0.004, on_step, QUICK
        )
        training.run()
        proxy.close()
    actions = [[one for one in acted if one.action != "lost"] for acted in training.acted.values()]
    shorter = min(map(len, actions))
    assert actions[0][:shorter] == actions[1][:shorter], training.acted


def test_a_rank_that_is_ready_fails_if_the_coordinator_is_stopped() -> None:
    """It must not go on alone, and must not wait for ever; its connection does not end."""
    with coordinator(2, QUICK) as server:
        proxy = Proxy(server, 0, cuts=0.0, garbage=0.0)

        def on_step(rank: int, step: int, agent: Agent) -> None:
            """Freeze the channel when rank 1 was asked, and before it can be ready."""
            if (rank, step) == (0, 50):
                agent.notice(time.monotonic() + 600, "test")
            if (rank, step) == (1, 51):
                until(lambda: agent.is_raised)
                proxy.is_frozen = True

        training = Training(2, 1000, server, proxy.address, lambda _: 0.002, on_step, QUICK)
        training.run()
        proxy.close()
    actions = {one.action for acted in training.acted.values() for one in acted}
    assert actions <= {"lost"}
    assert set(training.reached.values()) == {1000} or actions == {"lost"}


STRANGERS = {
    "a line that is no JSON object": b'"hello"\n',
    "a line without end": b"{" + b"a" * 70_000,
    "a hello of another life": b'{"kind":"hello","uid":"uid","attempt":0,"life":"x","rank":0}\n',
    "a message before the hello": b'{"kind":"bye"}\n',
    "nested deeply": b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"\n",
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_dropped_and_the_ranks_go_on(said: bytes) -> None:
    with coordinator(2) as server:
        with socket.create_connection((LOOPBACK, server.port), SECONDS) as stranger:
            with contextlib.suppress(ConnectionError):  # it may be dropped before all is said
                stranger.sendall(said)
            assert ended(stranger)
        _stops(server)


def test_a_rank_that_is_not_in_the_world_is_dropped() -> None:
    with coordinator(2) as server:
        life = server.identity.life
        line = f'{{"kind":"hello","uid":"uid","attempt":0,"life":"{life}","rank":2}}\n'
        with socket.create_connection((LOOPBACK, server.port), SECONDS) as stranger:
            stranger.sendall(line.encode())
            assert ended(stranger)


def test_a_newer_connection_of_a_rank_ends_its_older_one() -> None:
    with coordinator(2) as server:
        line = written(encode(server.identity.hello(0)))
        with (
            socket.create_connection((LOOPBACK, server.port), SECONDS) as older,
            socket.create_connection((LOOPBACK, server.port), SECONDS) as newer,
        ):
            for sock in (older, newer):
                sock.sendall(line)
                assert sock.recv(4096).startswith(b'{"kind":"alive"}')
            assert b"" in iter(lambda: older.recv(4096), None)
            assert newer.recv(4096)  # the next second's
        _stops(server)


def _stops(server: Server) -> None:
    training = Training(2, FOREVER, server, direct(server), lambda _: 0.002, noticing(20, 0))
    training.run()
    assert [one.action for one in same_for_all(training)] == ["stop"]


def test_a_second_coordinator_takes_another_port_if_the_first_has_it() -> None:
    with coordinator(1) as first:
        second = Server(first.identity, host=LOOPBACK, port=first.port)
        try:
            assert second.port != first.port
        finally:
            second.close()


def asked(server: Server, request: bytes) -> bytes:
    """Return the response to a request, which is sent in two parts."""
    with socket.create_connection((LOOPBACK, server.port), SECONDS) as sock:
        sock.sendall(request[:7])
        time.sleep(0.05)
        sock.sendall(request[7:])
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
        return b"".join(parts)


@pytest.mark.parametrize("path", ["/progress", "/metrics", "/"])
def test_the_port_of_the_ranks_also_serves_the_progress(path: str) -> None:
    with coordinator(2) as server:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert asked(server, request).startswith(b"HTTP/1.1 200 OK\r\n")
        _stops(server)


def test_the_progress_shows_what_the_ranks_say() -> None:
    with coordinator(2) as server:
        seen: list[dict[str, Any]] = []

        def shows_all() -> bool:
            body = asked(server, b"GET /progress HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2]
            seen.append(json.loads(body))
            has_beaten = (seen[-1]["step"] or 0) >= 39 and len(seen[-1]["ranks"]) == 2
            return has_beaten and seen[-1]["checkpoint"] is not None

        def on_step(rank: int, step: int, agent: Agent) -> None:
            if (rank, step) == (0, 20):
                agent.checkpointed(123, 1.5)
            if (rank, step) == (0, 40):
                until(shows_all)

        Training(2, 60, server, direct(server), lambda _: 0.003, on_step).run()
    assert seen[-1]["checkpoint"]["step"] == 123
    assert [one["rank"] for one in seen[-1]["ranks"]] == [0, 1]


def test_the_last_words_of_ranks_that_have_ended_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may come so late that the coordinator has not even accepted the connection.

    Its thread may stand still for longer than it has.
    """
    monkeypatch.setattr(servers, "_REST_SECONDS", 0.0)
    heard = []
    for _ in range(20):
        with coordinator(1) as server:
            beats = [Beat(place=Place(step, 1), phase=Phase.DONE) for step in (239, 240)]
            said = [encode(server.identity.hello(0)), *map(encode, beats)]
            with socket.create_connection((LOOPBACK, server.port), SECONDS) as sock:
                sock.sendall(b"".join(map(written, said)))
        heard.append((server.last_words() or {}).get("step"))
    assert heard == [240] * 20
