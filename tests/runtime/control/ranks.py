"""Ranks in threads: a training whose collectives are barriers, with real sockets between them."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from runtime.control.agent import Address, Agent
from runtime.control.agreement.messages import Action
from runtime.control.agreement.timers import Timeouts
from runtime.control.beat import Beat, Phase
from runtime.control.identity import Identity
from runtime.control.place import Place
from runtime.control.server import Server
from runtime.errors import ControlLost

# Of those that are about what happens when a timer goes off; others wait, however busy the machine.
QUICK = Timeouts(answers=1.0, save=2.0, hold=1.0, outcome=0.5, fresh=3.0, silence=2.0)
PATIENT = Timeouts(answers=300.0, save=300.0, hold=300.0, outcome=300.0, fresh=300.0, silence=300.0)
LOOPBACK = "127.0.0.1"
SECONDS = 120.0  # until a test gives up
FOREVER = 10**9  # steps, of a training that is asked to end


def beat(place: Place) -> Beat:
    return Beat(place=place, phase=Phase.STEP)


@dataclass(slots=True)
class Acted:
    """What a rank did at a step."""

    step: int
    action: str


@dataclass
class Training:
    """A training of several ranks; each step is a barrier, as an all-reduce is.

    Attributes:
        size: the number of ranks.
        steps: the number of steps; rank 0 may change it in `on_step`, two steps ahead.
        pause: returns the duration of a step of a rank.
        address: where the ranks look for the coordinator.
        timeouts: how long the ranks wait.
        dies: what `on_step` raises to end a rank in the middle of a step.
        acted: for each rank, what it did.
    """

    size: int
    steps: int
    server: Server
    address: Callable[[], Address | None]
    pause: Callable[[int], float] = lambda _rank: 0.0
    on_step: Callable[[int, int, Agent], None] = lambda _rank, _step, _agent: None
    timeouts: Timeouts = PATIENT
    dies: type[Exception] = threading.BrokenBarrierError
    acted: dict[int, list[Acted]] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)

    def run(self, seconds: float = 300.0) -> None:
        """Run all ranks to their end; a deadlock breaks the barriers, which fails the test."""
        self._barrier = threading.Barrier(self.size)
        threads = [
            threading.Thread(target=self._rank, args=(rank,), daemon=True)
            for rank in range(self.size)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        stuck = [rank for rank, thread in enumerate(threads) if thread.is_alive()]
        self._barrier.abort()
        assert not stuck, f"ranks {stuck} do not end: {self.reached} {self.acted}"

    def _rank(self, rank: int) -> None:
        own = self.server.identity
        agent = Agent(self.address, beat, own=own, rank=rank, timeouts=self.timeouts)
        self.acted[rank] = []
        try:
            with suppress(threading.BrokenBarrierError):
                self._train(rank, agent)
        except self.dies:
            self._barrier.abort()  # the others' all-reduce fails
        finally:
            agent.close()

    def _train(self, rank: int, agent: Agent) -> None:
        step = 0
        while step < self.steps:
            step += 1
            time.sleep(self.pause(rank))
            self._barrier.wait()  # the all-reduce of this step
            self.reached[rank] = step
            self.on_step(rank, step, agent)
            agent.mark = (step, 1)
            if agent.is_raised and not self._obey(rank, step, agent):
                return

    def _obey(self, rank: int, step: int, agent: Agent) -> bool:
        """Act at a boundary; return whether the rank goes on."""
        try:
            action = agent.at_boundary(is_clean=lambda: True)
        except ControlLost:
            self.acted[rank].append(Acted(step, "lost"))
            self._barrier.abort()  # its life ends, and with it that of the others
            return False
        if action is None:
            return True
        self.acted[rank].append(Acted(step, action.value))
        if action is Action.SAVE:
            self._barrier.wait()  # a save is a collective
            agent.saved()
            return True
        if action is Action.STOP:
            self._barrier.wait()
        return False


@contextmanager
def coordinator(size: int, timeouts: Timeouts = PATIENT) -> Iterator[Server]:
    server = Server(Identity(uid="uid", attempt=0, size=size), host=LOOPBACK, timeouts=timeouts)
    try:
        yield server
    finally:
        server.close()


def direct(server: Server) -> Callable[[], Address | None]:
    return lambda: Address(LOOPBACK, server.port, server.identity.life)


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(sock: socket.socket) -> bool:
    """Whether the other end closes the connection, and has said nothing more."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


class Proxy:
    """Stands between the ranks and the coordinator; cuts, delays and spoils what it passes on."""

    def __init__(self, server: Server, seed: int, *, cuts: float, garbage: float) -> None:
        self._server, self._random = server, random.Random(seed)
        self._cuts, self._garbage = cuts, garbage
        self._listener = socket.create_server((LOOPBACK, 0))
        self._open: list[socket.socket] = [self._listener]
        self._is_over = self.is_frozen = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def address(self) -> Address:
        port = self._listener.getsockname()[1]
        return Address(LOOPBACK, port, self._server.identity.life)

    def close(self) -> None:
        self._is_over = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            self._open.append(client)
            try:
                upstream = socket.create_connection((LOOPBACK, self._server.port))
            except OSError:  # the coordinator is dead
                client.close()
                continue
            self._open.append(upstream)
            for pair in ((client, upstream), (upstream, client)):
                thread = threading.Thread(target=self._pass_on, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                time.sleep(self._random.random() * 0.01)
                while self.is_frozen and not self._is_over:
                    time.sleep(0.05)
                if self._random.random() < self._cuts:
                    break
                if self._random.random() < self._garbage:
                    data = bytes(self._random.randrange(256) for _ in range(20)) + b"\n"
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
