"""The coordinator of a job: a thread that listens to all ranks at one port."""

import contextlib
import itertools
import logging
import math
import queue
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from runtime.control.agreement.messages import Up
from runtime.control.agreement.timers import Timeouts
from runtime.control.asker import Asker, cached
from runtime.control.beat import Beat
from runtime.control.connection import Connection
from runtime.control.forks import call_in_children
from runtime.control.identity import Identity
from runtime.control.keeper import Keeper
from runtime.control.lines import ProtocolError
from runtime.control.lives import Restarts, Sent
from runtime.control.messages import (
    Alive,
    Attend,
    Checkpointed,
    Cleared,
    Compared,
    Digested,
    Fell,
    Hello,
    Look,
    Message,
    Plan,
    Retire,
    Seen,
    Whereabouts,
)
from runtime.control.observer import Observer, for_launcher
from runtime.control.progress.encoding import last_words
from runtime.control.progress.request import looks_like_http
from runtime.control.progress.respond import Response, refuse
from runtime.control.rounds import Rounds
from runtime.control.stop_request import StopRequest
from runtime.control.verdicts.track import Limits

log = logging.getLogger(__name__)
_BACKLOG = 512
_GREETING_SECONDS = 10.0  # until a new connection must have said hello
_FIRST = 2**16  # bytes of the first read
_CACHE_SECONDS = 0.5  # that a page is shown again, however often it is asked for
_ABSENT = (
    "runtime: no checkpoint can be agreed on, because ranks %s (%d of %d) are not connected to the "
    "coordinator at port %d; does a NetworkPolicy or a firewall allow this port between the pods?"
)
_REST_SECONDS = 1.0  # at most, to read what was sent before the end
_REST_TURNS = 64  # that are read in any case: this thread may stand still for longer than a second
_GUESTS = 64  # connections that have not said hello, beside one for each rank
# What a rank may say after its hello.
_OBSERVED = (Plan, Whereabouts, Digested, Compared)  # what no agreement needs
_FROM_RANKS = (Beat, Checkpointed, *_OBSERVED, *Up.__args__)


@dataclass(eq=False, slots=True)
class _Guest:
    """A connection.

    Attributes:
        sock: the socket.
        until: when it is dropped if it has not said hello by then.
        connection: how it is spoken to; None until it has sent something.
        rank: the rank; None if it is none, or has not said hello.
        replica: the pod whose launcher it is; None if it is none.
    """

    sock: socket.socket
    until: float
    connection: Connection | Asker | None = None
    rank: int | None = None
    replica: int | None = None


class Server:
    """Listens to the ranks, and lets them agree.

    Attributes:
        identity: which ranks it speaks to.
        port: the port at which it listens.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        host: str = "",
        port: int = 0,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        restarts: Restarts | None = None,
    ) -> None:
        """Listen, at another port if the given one is taken, and start the thread.

        Args:
            identity: which ranks to speak to.
            host: the address to listen at; empty for all addresses.
            port: the port; 0 for any free one.
            timeouts: how long each timer of an agreement runs.
            limits: how long a rank may stand until the training is said to hang.
            restarts: what another life may follow; by default nothing.
        """
        self.identity = identity
        self._listener = _listening(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._timeouts = timeouts
        self._rounds = Rounds(identity.size, timeouts)
        self._keeper = Keeper(identity, restarts or Restarts(), self._begin_life)
        self._observer = Observer(identity, limits=limits)
        self._has_told = False  # that ranks are absent
        found = self._observer.pages
        self._pages = {path: cached(page, _CACHE_SECONDS) for path, page in found.items()}
        self._guests: dict[socket.socket, _Guest] = {}
        self._strangers: set[_Guest] = set()  # that have not said hello
        self._by_rank: dict[int, _Guest] = {}
        self._launchers: dict[int, _Guest] = {}  # by the replica
        self._notices: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._reads, self._wakes = socket.socketpair()
        self._closing: float = math.inf  # when to end at the latest
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._reads, selectors.EVENT_READ)
        call_in_children(self._release)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def notice(self, seconds_left: float, why: str) -> None:
        """Ask all ranks to stop. May be called by any thread."""
        self._notices.put((time.monotonic() + seconds_left, why))
        self._wake()

    def close(self, seconds: float = 0.0) -> None:
        """End when all ranks have said goodbye, or after some time.

        Args:
            seconds: the longest time to wait.
        """
        self._closing = time.monotonic() + seconds
        self._wake()
        self._thread.join()

    @property
    def is_complete(self) -> bool:
        """Whether rank 0 has ended its last epoch; known when this is closed."""
        return self._observer.is_complete

    def last_words(self) -> dict[str, Any] | None:
        """Return how far the training came, when this is closed; None if it had no step."""
        snapshot = self._observer.snapshot()
        return None if snapshot.step is None else last_words(snapshot)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the thread has ended
            self._wakes.send(b"\0")

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._turn()
            self._read_rest()
        finally:
            self._selector.close()
            self._release()

    def _read_rest(self) -> None:
        """Take what has arrived: processes that have ended may have sent it just before."""
        until = time.monotonic() + _REST_SECONDS
        for turn in itertools.count():
            ready = self._selector.select(0)
            if not ready or (turn >= _REST_TURNS and time.monotonic() >= until):
                return
            for key, events in ready:
                self._handle(key.fileobj, events)

    def _release(self) -> None:
        """Close all sockets; also in a forked child, which must keep neither port nor connection.

        The selector of a child is not closed: its registrations are the parent's.
        """
        for sock in self._guests:
            sock.close()
        for sock in (self._listener, self._reads, self._wakes):
            sock.close()

    def _is_over(self) -> bool:
        now = time.monotonic()
        return now >= self._closing or (self._closing < math.inf and self._rounds.state.is_alone)

    def _turn(self) -> None:
        """Wait until something happens, and handle it."""
        now = time.monotonic()
        limits = [self._rounds.seconds_to_tick(now), self._closing - now]
        limits += [self._observer.judge_at - now, self._keeper.expires - now]
        limits += [guest.until - now for guest in self._strangers]
        limit = min(limits)
        ready = self._selector.select(None if math.isinf(limit) else max(0.0, limit))
        for key, events in ready:
            self._handle(key.fileobj, events)
        self._take_notices()
        now = time.monotonic()
        for guest in [one for one in self._strangers if one.until <= now]:
            self._drop(guest, "it has not said hello")
        self._send(self._rounds.tick(now))
        if now >= self._observer.judge_at:
            self._judge_all(now)
        self._order(self._keeper.tick(now))

    def _judge_all(self, now: float) -> None:
        """Judge the training, and tell all ranks and launchers what follows."""
        for message in self._observer.judge(now):
            said = Alive() if isinstance(message, Look) else message
            self._send([(rank, said) for rank in self._by_rank])
            for replica, guest in list(self._launchers.items()):
                heard = for_launcher(message, self._ranks_of(replica))
                self._say(guest, *(() if heard is None else (heard,)))
        if (failure := self._keeper.failure_of(self._observer.hang.hang)) is not None:
            self._fall(failure, now)
        absent = self._rounds.absent(now)
        if absent and not self._has_told:
            log.warning(_ABSENT, sorted(absent)[:8], len(absent), self.identity.size, self.port)
        self._has_told = bool(absent)

    def _ranks_of(self, replica: int) -> range:
        first = replica * self.identity.processes
        return range(first, min(first + self.identity.processes, self.identity.size))

    def _handle(self, sock: Any, events: int) -> None:
        if sock is self._listener:
            self._accept()
        elif sock is self._reads:
            self._reads.recv(4096)
        elif sock in self._guests:
            self._exchange(self._guests[sock], events)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was gone before it was accepted
            sock, _ = self._listener.accept()
            if len(self._strangers) >= self.identity.size + _GUESTS:
                sock.close()
                return
            sock.setblocking(False)
            guest = _Guest(sock, time.monotonic() + _GREETING_SECONDS)
            self._guests[sock] = guest
            self._strangers.add(guest)
            self._selector.register(sock, selectors.EVENT_READ)

    def _exchange(self, guest: _Guest, events: int) -> None:
        try:
            connection = guest.connection or self._begin(guest)
            if events & selectors.EVENT_WRITE:
                connection.flush()
            if events & selectors.EVENT_READ:
                for message in connection.receive():
                    self._receive(guest, message)
            self._watch(guest)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            self._drop(guest, str(error))

    def _begin(self, guest: _Guest) -> Connection | Asker:
        """Decide by the first bytes of a connection what it is."""
        data = guest.sock.recv(_FIRST)
        if looks_like_http(data):
            guest.connection = Asker(guest.sock, self._pages, self._stop, data)
        else:
            guest.connection = Connection(guest.sock, data)
        return guest.connection

    def _watch(self, guest: _Guest) -> None:
        """Ask to be told when what waits can be sent."""
        if guest.sock in self._guests and guest.connection is not None:
            writes = selectors.EVENT_WRITE if guest.connection.has_unsent else 0
            self._selector.modify(guest.sock, selectors.EVENT_READ | writes)

    def _receive(self, guest: _Guest, message: Message) -> None:
        if guest.rank is None:
            self._receive_other(guest, message)
        elif self._by_rank.get(guest.rank) is guest and isinstance(message, _FROM_RANKS):
            now = time.monotonic()
            if question := self._observer.hear(guest.rank, message, now):
                self._send([(rank, question) for rank in self._by_rank])
            if not isinstance(message, _OBSERVED):
                self._send(self._rounds.receive(guest.rank, message, now))
        else:
            sentence = f"rank {guest.rank} must not say {type(message).__name__}"
            raise ProtocolError(sentence)

    def _receive_other(self, guest: _Guest, message: Message) -> None:
        """Let somebody in, or take what a launcher has seen.

        Raises:
            ProtocolError: it must not say this.
        """
        if guest.replica is None and isinstance(message, Attend):
            self._attend(guest, message)
        elif guest.replica is None:
            self._greet(guest, message)
        elif isinstance(message, Seen) and message.rank in self._ranks_of(guest.replica):
            self._observer.see(message)
        elif isinstance(message, Fell) and message.rank in self._ranks_of(guest.replica):
            self._fall(message, time.monotonic())
        elif isinstance(message, Cleared):
            self._order(self._keeper.clear(guest.replica, message, time.monotonic()))
        elif isinstance(message, Retire):
            self._order(self._keeper.retire(guest.replica, time.monotonic()))
        else:
            sentence = f"the launcher of replica {guest.replica} must not say {message!r:.200}"
            raise ProtocolError(sentence)

    def _attend(self, guest: _Guest, message: Attend) -> None:
        """Let the launcher of a pod in; an older connection of the same pod ends.

        Raises:
            ProtocolError: it belongs to another job or attempt, or attends to no pod of it.
        """
        own = self.identity
        is_ours = (message.uid, message.attempt) == (own.uid, own.attempt)
        if not is_ours or not self._ranks_of(message.replica):
            raise ProtocolError("it is not a launcher of this attempt")
        if (older := self._launchers.get(message.replica)) is not None:
            self._drop(older, "there is a newer connection")
        guest.replica = message.replica
        self._strangers.discard(guest)
        self._launchers[message.replica] = guest
        self._observer.attend(message.replica, message.node)
        self._say(guest, Alive(), self._observer.hang)
        self._order(self._keeper.attend(message.replica, time.monotonic()))

    def _fall(self, failure: Fell, now: float) -> None:
        """End the life because of a failure, if another one may follow."""
        has_stepped, stops = self._observer.has_stepped, self._rounds.is_noticed
        self._order(self._keeper.fall(failure, now, has_stepped=has_stepped, stops=stops))

    def _begin_life(self, now: float) -> None:
        """Forget the ranks of the life before; those of the new one say hello with its name."""
        state = self._keeper.state
        self.identity = replace(self.identity, life=state.life)
        for guest in list(self._by_rank.values()):
            self._drop(guest, "another life begins")
        self._rounds = Rounds(self.identity.size, self._timeouts)
        self._observer.begin(state.number, state.before, now)
        for guest in list(self._launchers.values()):
            self._say(guest, self._observer.hang)  # none stands any more

    def _order(self, sent: Sent) -> None:
        """Tell launchers what the state of the lives is."""
        for replica, order in sent:
            if (guest := self._launchers.get(replica)) is not None:
                self._say(guest, order)

    def _greet(self, guest: _Guest, message: Message) -> None:
        """Let a rank in; an older connection of the same rank ends.

        Raises:
            ProtocolError: it belongs to another job, attempt or life, or is no rank.
        """
        if not isinstance(message, Hello) or message != self.identity.hello(message.rank):
            raise ProtocolError("it is not of this life")
        if message.rank >= self.identity.size:
            raise ProtocolError(f"rank {message.rank} is not in a world of {self.identity.size}")
        if (older := self._by_rank.get(message.rank)) is not None:
            self._drop(older, "there is a newer connection")
        guest.rank = message.rank
        self._strangers.discard(guest)
        self._by_rank[message.rank] = guest
        self._say(guest, Alive(), self._observer.hang)
        self._send(self._rounds.connect(message.rank, time.monotonic()))

    def _stop(self, request: StopRequest) -> Response:
        """Let all ranks stop, and say whether they will do so by themselves."""
        own = self.identity
        if not own.uid or (request.uid, request.attempt) != (own.uid, own.attempt):
            return refuse(HTTPStatus.CONFLICT, "these are processes of another job or attempt")
        self._take_notice(request.seconds_left, "by the operator")
        if not self._rounds.will_stop:
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE, "not all ranks are connected")
        return refuse(HTTPStatus.ACCEPTED, "all ranks stop at their next common boundary")

    def _take_notices(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                deadline, why = self._notices.get_nowait()
                self._take_notice(deadline - time.monotonic(), why)

    def _take_notice(self, seconds_left: float, why: str) -> None:
        log.info("asked to stop: %s", why)
        self._send(self._rounds.notice(max(0.0, seconds_left), time.monotonic()))

    def _send(self, sent: Iterable[tuple[int, Message]]) -> None:
        for rank, message in list(sent):
            guest = self._by_rank.get(rank)
            if guest is not None:
                self._say(guest, message)

    def _say(self, guest: _Guest, *messages: Message) -> None:
        """Send messages to a rank or launcher that was let in."""
        if not isinstance(guest.connection, Connection):
            return
        try:
            for message in messages:
                guest.connection.send(message)
            self._watch(guest)
        except (OSError, ProtocolError) as error:
            self._drop(guest, str(error))

    def _drop(self, guest: _Guest, why: str) -> None:
        """End a connection; its rank may connect again."""
        if self._guests.pop(guest.sock, None) is None:
            return
        self._strangers.discard(guest)
        log.debug("a connection of rank %s ends: %s", guest.rank, why)
        self._selector.unregister(guest.sock)
        guest.sock.close()
        if guest.replica is not None and self._launchers.get(guest.replica) is guest:
            del self._launchers[guest.replica]
            self._keeper.leave(guest.replica)
        if guest.rank is not None and self._by_rank.get(guest.rank) is guest:
            del self._by_rank[guest.rank]
            self._observer.lose(guest.rank)
            self._send(self._rounds.disconnect(guest.rank, time.monotonic()))


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens, at a free port if the given one is taken."""
    try:
        return _bound(host, port)
    except OSError:
        return _bound(host, 0)


def _bound(host: str, port: int) -> socket.socket:
    if host == "" and socket.has_dualstack_ipv6():
        family, is_dual = socket.AF_INET6, True
    else:
        family, is_dual = (socket.AF_INET6 if ":" in host else socket.AF_INET), False
    return socket.create_server(
        (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual
    )
