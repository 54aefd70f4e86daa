"""What a rank's end of the channel says and keeps, whoever is at the other end."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from runtime.control.agent import Address, Agent
from runtime.control.connection import Connection
from runtime.control.identity import Identity
from runtime.control.wire import Alive, Hello, Message, Plan
from tests.runtime.control.ranks import LOOPBACK, beat

OWN = Identity(uid="uid", attempt=0, size=1)


@contextmanager
def alone() -> Iterator[Agent]:
    """An agent that finds no coordinator."""
    with closing(Agent(lambda: None, beat, own=OWN, rank=0)) as agent:
        yield agent


def heard(listener: socket.socket, kind: type[Message]) -> list[Message]:
    """Let a rank in, and return what it says until it has said a message of a kind."""
    sock, _ = listener.accept()
    found: list[Message] = []
    with closing(sock):
        connection = Connection(sock)
        while not any(isinstance(one, kind) for one in found):
            assert select.select([sock], [], [], 10)[0], found
            found += connection.receive()
            connection.send(Alive())
    return found


@pytest.mark.parametrize("seconds", [(5, 50), (50, 5)], ids=["first", "last"])
def test_the_earliest_deadline_of_several_notices_counts(seconds: tuple[int, int]) -> None:
    with alone() as agent:
        for left in seconds:
            agent.notice(time.monotonic() + left, "test")
        assert 0 < agent.seconds_left() <= 5


def test_a_fact_is_said_again_on_each_connection() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], "other")
        with closing(Agent(lambda: address, beat, own=OWN, rank=0)) as agent:
            agent.plan(3, 4)
            both = [heard(listener, Plan) for _ in range(2)]
    for said in both:
        assert said[0] == Hello(uid="uid", attempt=0, life="other", rank=0)
        assert Plan(epochs=3, steps_per_epoch=4) in said
