"""What is said over the control channel is read strictly, whatever is said."""

import json
import socket
import string
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtime.control.agreement.messages import Action, Here, Wish
from runtime.control.beat import Beat, Phase
from runtime.control.connection import Connection
from runtime.control.frames import Frame
from runtime.control.lines import MAX_LINE, Lines, ProtocolError, parsed, written
from runtime.control.messages import (
    MAX_RANKS,
    Attend,
    Begin,
    Checkpointed,
    Clear,
    Cleared,
    Collect,
    Compare,
    Compared,
    Digested,
    Fell,
    GiveUp,
    Hello,
    Judged,
    Look,
    Message,
    Plan,
    Retire,
    Seen,
    Whereabouts,
)
from runtime.control.place import Place
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.summary import Summary
from runtime.control.wire import decode, encode

HANG = Summary(
    rank=3,
    replica=3,
    node="n7",
    file="/app/data.py",
    line=88,
    function="read",
    since="2026-11-27T14:00:00+00:00",
    waits_in="all_reduce, collective 7",
    message="the training hangs: rank 3 is at /app/data.py:88",
)
MESSAGES: list[Message] = [
    Hello(uid="u", attempt=3, life="l", rank=7),
    Beat(place=Place(5, 1), phase=Phase.STEP, loss=0.25, metrics={"a": 1.5}, step_seconds=0.1),
    Checkpointed(step=3, seconds=1.5),
    Plan(epochs=3),
    Collect(),
    Whereabouts(Report(excuse="none")),
    Attend(uid="u", attempt=3, replica=2, node="n7"),
    Look((2, 3)),
    Seen(rank=2, report=Report(excuse="none")),
    Judged(None),
    Judged(HANG),
    Digested(step=3, tensors=2, digest="0" * 16),
    Compare(step=3, count=1),
    Compared(step=3, count=1, digest="0" * 16, name="a", last="f" * 16),
    Fell(number=1, rank=2, status=-9, exception="E", message="m", at_step=3, why_not="w"),
    Cleared(number=1),
    Retire(),
    Clear(number=1, why="rank 2 got signal 9", at_once=True),
    Begin(number=1, life="l"),
    GiveUp(number=1, why="w"),
    Wish(Action.STOP, 3.5, "SIGTERM"),
    Here(3, Place(5, 1)),
]
NAMES = [type(one).__name__ for one in MESSAGES]
VALUES = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(10**400), 10**400)
    | some.floats()
    | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(parsed(written(encode(message)).rstrip())) == message


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
@given(data=some.data())
def test_a_message_with_another_value_is_read_or_refused(message: Message, data: Any) -> None:
    told = encode(message)
    name = data.draw(some.sampled_from(sorted(told)))
    told[name] = data.draw(VALUES)
    try:
        decode(told)
    except ProtocolError:
        return


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_a_message_with_a_missing_or_an_additional_field_is_refused(message: Message) -> None:
    told = encode(message)
    with pytest.raises(ProtocolError):
        decode(told | {"more": 1})
    for name in told:
        with pytest.raises(ProtocolError):
            decode({key: value for key, value in told.items() if key != name})


@given(some.lists(some.binary(max_size=40).filter(lambda one: b"\n" not in one)), some.data())
def test_lines_are_found_wherever_they_are_cut(lines: list[bytes], data: Any) -> None:
    text = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(some.lists(some.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    reader = Lines()
    assert [line for piece in pieces for line in reader.feed(piece)] == lines


def test_a_line_without_end_is_refused() -> None:
    reader = Lines()
    reader.feed(b"a" * (MAX_LINE - 1))
    with pytest.raises(ProtocolError, match="must be shorter"):
        reader.feed(b"a")


WRONG = {
    "NaN, which is not in JSON": b'{"kind": NaN}',
    "a list": b"[1]",
    "bytes that are no text": b"\xff\xfe",
    "too deep": b"[" * 30_000,
}


@pytest.mark.parametrize("line", WRONG.values(), ids=WRONG.keys())
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="must be a JSON object"):
        parsed(line)


REFUSED: dict[str, tuple[Message, dict[str, Any]]] = {
    "a number beyond what JSON is read exactly to": (MESSAGES[0], {"attempt": 2**53}),
    "a negative number": (MESSAGES[0], {"attempt": -1}),
    "a truth value as a number": (MESSAGES[0], {"attempt": True}),
    "a text that is too long": (MESSAGES[0], {"uid": "u" * 257}),
    "a number that is none": (MESSAGES[2], {"seconds": float("nan")}),
    "a number that is infinite": (MESSAGES[2], {"seconds": float("inf")}),
    "too many metrics": (MESSAGES[1], {"metrics": {f"{i}": 1.0 for i in range(65)}}),
    "the name of a metric that is too long": (MESSAGES[1], {"metrics": {"m" * 257: 1.0}}),
    "too many ranks": (Look(()), {"ranks": [*range(MAX_RANKS + 1)]}),
    "a digest that is not hexadecimal": (
        Digested(step=1, tensors=1, digest="0" * 16),
        {"digest": "x" * 16},
    ),
}


@pytest.mark.parametrize(("message", "change"), REFUSED.values(), ids=REFUSED.keys())
def test_a_value_out_of_bounds_is_refused(message: Message, change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(message) | change)


def test_a_beat_of_the_longest_metrics_fits_into_a_line() -> None:
    metrics = {f"{i}{string.ascii_letters * 4}": 1e300 for i in range(1000)}
    beat = Beat(place=Place(), phase=Phase.STEP, metrics=metrics)
    line = written(encode(beat))
    assert len(line) < MAX_LINE
    assert len(json.loads(line)["metrics"]) == 64
    decode(parsed(line))


def test_somebody_who_reads_nothing_is_given_up() -> None:
    """What waits for it would fill the memory."""
    report = Report.of((Frame("/" + "x" * 400, 1, "f" * 150),) * 99)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(socket.create_connection(listener.getsockname()))

        def say_much() -> None:
            for _ in range(1000):  # 20 MB, more than the kernel keeps
                connection.send(Whereabouts(report))

        with closing(connection), pytest.raises(ProtocolError, match="has not read"):
            say_much()


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_all_that_was_sent_before_the_end_is_heard(*, is_reset: bool) -> None:
    """A reset, which a message causes that the other end has not read, does not hide it."""
    facts = [Checkpointed(step=step, seconds=1.0) for step in range(3)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = socket.create_connection(listener.getsockname())
        sock, _ = listener.accept()
    with other:
        for fact in facts:
            other.sendall(written(encode(fact)))
        if is_reset:
            sock.sendall(b"unread")
    with closing(Connection(sock, sock.recv(1))) as connection:
        connection.send(Collect())
        connection.send(Collect())
        assert connection.receive() == facts
        with pytest.raises(ConnectionResetError):
            connection.receive()


def test_what_was_read_before_the_end_is_heard() -> None:
    fact = Checkpointed(step=1, seconds=1.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()).close()
        sock, _ = listener.accept()
    with closing(Connection(sock, written(encode(fact)))) as connection:
        assert connection.receive() == [fact]
        with pytest.raises(ConnectionResetError):
            connection.receive()
