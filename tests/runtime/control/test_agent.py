"""What a rank's end of the channel says and keeps, whoever is at the other end."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from runtime.control.agent import Address, Agent
from runtime.control.agreement.messages import Action, Answer, Ask, Bye, Decide, Here, Wish
from runtime.control.beat import Beat
from runtime.control.connection import Connection
from runtime.control.identity import Identity
from runtime.control.messages import Alive, Hello, Message, Plan
from runtime.control.place import Place
from runtime.errors import ControlLost
from tests.runtime.control.ranks import LOOPBACK, PATIENT, SECONDS, beat

OWN = Identity(uid="uid", attempt=0, size=1)


@contextmanager
def alone() -> Iterator[Agent]:
    """An agent that finds no coordinator."""
    with closing(Agent(lambda: None, beat, own=OWN, rank=0)) as agent:
        yield agent


def until(connection: Connection, kind: type[Message]) -> list[Message]:
    """What a rank says until it has said a message of a kind."""
    found: list[Message] = []
    while not any(isinstance(one, kind) for one in found):
        assert select.select([connection.sock], [], [], SECONDS)[0], found
        found += connection.receive()
        connection.send(Alive())
    return found


def heard(listener: socket.socket, kind: type[Message]) -> list[Message]:
    """Let a rank in, and return what it says until it has said a message of a kind."""
    sock, _ = listener.accept()
    with closing(sock):
        return until(Connection(sock), kind)


@pytest.mark.parametrize("seconds", [(500, 5000), (5000, 500)], ids=["first", "last"])
def test_the_earliest_deadline_of_several_notices_counts(seconds: tuple[int, int]) -> None:
    with alone() as agent:
        for left in seconds:
            agent.notice(time.monotonic() + left, "test")
        assert 0 < agent.seconds_left() <= 500


def test_a_fact_is_said_again_on_each_connection() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], "other")
        with closing(Agent(lambda: address, beat, own=OWN, rank=0)) as agent:
            agent.plan(3, 4)
            both = [heard(listener, Plan) for _ in range(2)]
    for said in both:
        assert said[0] == Hello(uid="uid", attempt=0, life="other", rank=0)
        assert Plan(epochs=3, steps_per_epoch=4) in said


def test_a_rank_that_ends_says_what_it_wants_once_then_its_last_place_and_goodbye() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], "life")
        agent = Agent(lambda: address, beat, own=OWN, rank=0)
        sock, _ = listener.accept()
        with closing(sock):
            connection = Connection(sock)
            said = until(connection, Beat)
            agent.wish_to_save()
            agent.wish_to_save()
            said += until(connection, Wish)
            agent.mark = (7, 1)
            agent.close()
            said += until(connection, Bye)
    assert [one for one in said if isinstance(one, Wish)] == [Wish(Action.SAVE)]
    assert said[-2:] == [beat(Place(7, 1)), Bye()]


def test_a_rank_that_ends_at_once_says_its_place_and_goodbye() -> None:
    """Its thread may not have run before: nobody else knows how far a short script came."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], "life")
        agent = Agent(lambda: address, beat, own=OWN, rank=0)
        agent.mark = (7, 1)
        agent.close()
        sock, _ = listener.accept()
        with closing(sock):
            said = until(Connection(sock), Bye)
    assert said[1:] == [beat(Place(7, 1)), Bye()]


class Reads(Agent):
    """A rank whose place is read; notes whether its main thread had to hold then."""

    reads: list[bool]

    @property
    def mark(self) -> tuple[int, int]:
        self.reads.append(self.is_raised)
        return self.at

    @mark.setter
    def mark(self, at: tuple[int, int]) -> None:
        self.at, self.reads = at, []


def test_the_place_is_read_when_the_hold_is_raised() -> None:
    """Otherwise the main thread may pass the boundary in between, and the answer is too old."""
    with closing(Reads(lambda: None, beat, own=OWN, rank=0)) as agent:
        agent._hear(Ask(1))
        assert agent.reads == [True]


def test_a_rank_that_is_ready_fails_if_its_thread_does() -> None:
    is_broken = threading.Event()

    def say(place: Place) -> Beat:
        if is_broken.is_set():
            raise ValueError("the thread fails")
        return beat(place)

    def wait() -> None:
        with pytest.raises(ControlLost):
            agent.at_boundary(is_clean=lambda: True)

    with socket.create_server((LOOPBACK, 0)) as listener:
        address = Address(LOOPBACK, listener.getsockname()[1], "life")
        with closing(Agent(lambda: address, say, own=OWN, rank=0, timeouts=PATIENT)) as agent:
            sock, _ = listener.accept()
            with closing(sock):
                connection = Connection(sock)
                until(connection, Hello)
                connection.send(Ask(1))
                until(connection, Answer)
                agent.mark = (1, 1)
                waiting = threading.Thread(target=wait, daemon=True)
                waiting.start()
                connection.send(Decide(1, Place()))
                until(connection, Here)
                is_broken.set()
                waiting.join(SECONDS)
                assert not waiting.is_alive()
