"""The operator tells the coordinator to stop, by HTTP, before it deletes the pods."""

import json
import socket
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.control.agent import Agent
from runtime.control.identity import Identity
from runtime.control.progress.request import BadRequest
from runtime.control.server import Server
from runtime.control.stop_request import MAX_BODY, StopRequest, length_of, read_stop
from tests.runtime.control.ranks import FOREVER, LOOPBACK, SECONDS, Training, coordinator, direct

GOOD = {"uid": "uid", "attempt": 0, "secondsLeft": 30}


def posted(
    server: Server, body: bytes, *, method: str = "POST", length: str = "", kind: str = ""
) -> int:
    """Return the status of the answer to a request to stop."""
    head = (
        f"{method} /stop HTTP/1.0\r\nContent-Type: {kind or 'application/json'}\r\n"
        f"Content-Length: {length or len(body)}\r\n\r\n"
    )
    with socket.create_connection((LOOPBACK, server.port), SECONDS) as sock:
        sock.sendall(head.encode())
        sock.sendall(body)
        answer = b""
        while data := sock.recv(4096):
            answer += data
    return int(answer.split(b" ", 2)[1])


def written(**changed: object) -> bytes:
    return json.dumps({**GOOD, **changed}).encode()


def test_a_request_of_the_operator_stops_all_ranks_at_the_same_step() -> None:
    told: list[int] = []
    with coordinator(2) as server:

        def on_step(rank: int, step: int, _: Agent) -> None:
            if rank == 0 and step > 20 and not told and server._rounds.will_stop:
                told.append(posted(server, written()))

        training = Training(2, FOREVER, server, direct(server), lambda _: 0.002, on_step)
        training.run()
    assert told == [202]
    assert [one.action for one in training.acted[0]] == ["stop"]
    assert training.acted[0] == training.acted[1]


def test_a_request_with_less_time_than_a_save_takes_makes_the_ranks_leave() -> None:
    told: list[int] = []
    with coordinator(1) as server:

        def on_step(_rank: int, step: int, agent: Agent) -> None:
            if step == 10:
                agent.checkpointed(5, 100.0)
            if server._rounds._save_seconds == 100.0 and not told:
                told.append(posted(server, written(secondsLeft=20)))

        training = Training(1, FOREVER, server, direct(server), lambda _: 0.002, on_step)
        training.run()
    assert told == [202]
    assert [one.action for one in training.acted[0]] == ["leave"]


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        pytest.param(written(), {}, 503, id="not all ranks are connected"),
        pytest.param(written(uid="other"), {}, 409, id="another job"),
        pytest.param(written(attempt=1), {}, 409, id="another attempt"),
        pytest.param(written(), {"method": "GET"}, 405, id="not posted"),
        pytest.param(written(), {"kind": "text/plain"}, 415, id="what a page in a browser sends"),
        pytest.param(written(), {"length": "x"}, 411, id="no length"),
        pytest.param(b"", {"length": str(MAX_BODY + 1)}, 413, id="too long"),
        pytest.param(b"{}", {}, 400, id="not all keys"),
        pytest.param(written(more=1), {}, 400, id="a key too many"),
    ],
)
def test_what_is_answered(body: bytes, more: Mapping[str, str], status: int) -> None:
    with coordinator(2) as server:
        assert posted(server, body, **more) == status


def test_nobody_stops_a_training_that_is_not_of_a_job() -> None:
    server = Server(Identity(uid="", attempt=0, size=1), host=LOOPBACK)
    try:
        assert posted(server, written(uid="")) == 400
        assert posted(server, written(uid="a")) == 409
    finally:
        server.close()


WRONG = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b"[" * MAX_BODY, id="a deep list"),
    pytest.param(written(secondsLeft=-1), id="a time that is over"),
    pytest.param(written(secondsLeft=True), id="a truth value as a time"),
    pytest.param(written(secondsLeft=None), id="no time"),
    pytest.param(b'{"uid": "u", "attempt": 0, "secondsLeft": NaN}', id="not a number"),
    pytest.param(b'{"uid": "u", "attempt": 0, "secondsLeft": 1e999}', id="an infinite time"),
    pytest.param(written(attempt=-1), id="a negative attempt"),
    pytest.param(written(attempt=0.0), id="an attempt that is no whole number"),
    pytest.param(written(uid=""), id="an empty uid"),
    pytest.param(written(uid="a" * 129), id="a uid without end"),
    pytest.param(b"\xff", id="no text"),
]


@pytest.mark.parametrize("body", WRONG)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_stop(body)


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
@example(written())
def test_any_bytes_are_a_request_or_are_refused(body: bytes) -> None:
    try:
        found = read_stop(body)
    except BadRequest:
        return
    assert found == StopRequest(uid="uid", attempt=0, seconds_left=30.0)


@pytest.mark.parametrize("length", ["", "-1", "1_0", "\u0663", " 3", "1" * 5000])
def test_a_length_that_is_no_small_number_is_refused(length: str) -> None:
    with pytest.raises(BadRequest):
        length_of({"content-length": length, "content-type": "application/json"})
