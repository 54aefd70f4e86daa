"""A rank's end of the control channel: a thread that speaks to the coordinator.

The main thread writes its place, and then tests whether it must take part in an agreement. Only if
it must does it take the lock that it shares with the thread.
"""

import contextlib
import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from runtime.control.agreement import member as machine
from runtime.control.agreement.member import Member, Order, Step
from runtime.control.agreement.messages import Action, Down, Up, Wish
from runtime.control.agreement.timers import Timeouts, Timer
from runtime.control.beat import Beat
from runtime.control.connection import Connection
from runtime.control.forks import call_in_children
from runtime.control.identity import Identity
from runtime.control.lines import ProtocolError
from runtime.control.messages import (
    Alive,
    Checkpointed,
    Collect,
    Compare,
    Digested,
    Judged,
    Message,
    Plan,
    Whereabouts,
)
from runtime.control.place import Place
from runtime.control.progress.snapshot import Tier
from runtime.control.tables import Tables
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.summary import Summary
from runtime.errors import ControlLost

log = logging.getLogger(__name__)
_BEAT_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 0.5
_ACTIONS = {Order.SAVE: Action.SAVE, Order.STOP: Action.STOP, Order.LEAVE: Action.LEAVE}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the coordinator of a life is.

    Attributes:
        host: its host name or IP address.
        port: its port.
        life: the name of the life.
    """

    host: str
    port: int
    life: str


class Agent:
    """Takes part in the agreements of all ranks, for one rank.

    Attributes:
        mark: the completed steps and begun epochs at the last boundary; the main thread writes
            them before it tests `is_raised`.
        is_raised: whether the main thread must call `at_boundary`.
    """

    def __init__(
        self,
        find: Callable[[], Address | None],
        beat: Callable[[Place], Beat],
        report: Callable[[], Report] = Report,
        *,
        own: Identity,
        rank: int,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Start the thread.

        Args:
            find: returns the address of the coordinator; None if it is not known yet. Called by the
                thread.
            beat: returns what is to be said of this rank at a place. Called by the thread.
            report: returns where this rank is, if it hangs. Called by the thread.
            own: which job and attempt this is; the name of the life comes with the address.
            rank: the rank.
            timeouts: how long each timer of an agreement runs.
        """
        self.mark = (0, 0)
        self.is_raised = False
        self._find, self._beat, self._report = find, beat, report
        self._own, self._rank = own, rank
        self._tables = Tables()
        self._timeouts = timeouts or Timeouts()
        self._state = Member()
        self._changed = threading.Condition()
        self._deadline = math.inf
        self._unsent: list[Up | Checkpointed | Plan | Digested] = []  # by other threads
        self._facts: dict[type, Checkpointed | Plan] = {}  # the last of each kind
        self._connection: Connection | None = None
        self._timer: Timer | None = None
        self._expires = math.inf
        self._is_over = False
        self._is_let_in = False  # whether the coordinator has answered on this connection
        self._heard_at = 0.0  # when it has said something last
        self._reads, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        call_in_children(self._release)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    # ---- For the main thread, and the thread of signals

    def notice(self, deadline: float, why: str) -> None:
        """Ask all ranks to stop. May be called by any thread.

        Args:
            deadline: the monotonic time at which this process is killed.
            why: the cause, for the log.
        """
        with self._changed:
            self._deadline = min(self._deadline, deadline)
            wish = Wish(Action.STOP, self._seconds_left(), why)
            self._say(machine.want(self._state, wish))

    def wish_to_save(self) -> None:
        """Ask all ranks to save; says it once until it is done."""
        with self._changed:
            if self._state.wish is None:
                self._say(machine.want(self._state, Wish(Action.SAVE)))

    def at_boundary(self, *, is_clean: Callable[[], bool]) -> Action | None:
        """Return what all ranks do at this boundary; None: nothing. May wait for other ranks.

        Args:
            is_clean: whether a checkpoint of this boundary loses nothing.

        Raises:
            ControlLost: this rank was ready, and the decision of all could not be had.
        """
        place = Place(*self.mark)
        with self._changed:
            order = self._order(place, is_clean)
            while order is Order.WAIT:
                self._changed.wait()
                order = self._order(place, is_clean)
        if order is Order.LOST:
            sentence = (
                f"rank {self._rank} waits at step {place.steps} for the decision of all ranks to "
                "stop or save, but the coordinator cannot be reached; the processes must restart"
            )
            raise ControlLost(sentence)
        return _ACTIONS.get(order)

    def saved(self) -> None:
        """Note that this rank has done its part of an agreed save."""
        with self._changed:
            if self._state.standing is machine.Standing.ACTING:
                self._say(machine.saved(self._state))

    def checkpointed(self, step: int, seconds: float, tier: Tier = Tier.STORAGE) -> None:
        """Tell the coordinator that a checkpoint is complete. May be called by any thread."""
        self._tell(Checkpointed(step=step, seconds=seconds, tier=tier))

    def plan(
        self, epochs: int | None, steps_per_epoch: int | None, first_step: int | None = None
    ) -> None:
        """Tell the coordinator from where to where the training is, as far as it is known."""
        said = Plan(epochs=epochs, steps_per_epoch=steps_per_epoch, first_step=first_step)
        self._tell(said)

    def digested(self, step: int, digests: Mapping[str, int]) -> None:
        """Tell the coordinator the digests of the tensors that all ranks must have alike.

        Args:
            step: the number of completed optimizer steps.
            digests: the name of a tensor -> its digest, in an order that is the same on all ranks.
        """
        said = self._tables.keep(step, digests)
        with self._changed:
            self._unsent.append(said)
        self._wake()

    def _tell(self, fact: Checkpointed | Plan) -> None:
        """Tell the coordinator a fact, now and with each new connection."""
        with self._changed:
            self._facts[type(fact)] = fact
            self._unsent.append(fact)
        self._wake()

    def seconds_left(self) -> float:
        """Return the time until this process is killed; infinity if nothing has asked to stop."""
        return max(0.0, self._deadline - time.monotonic())

    def close(self) -> None:
        """Say goodbye, and end the thread."""
        with self._changed:
            self._say(machine.end(self._state))
            self._is_over = True
        self._wake()
        self._thread.join()

    def on_hang(self, hang: Summary | None) -> None:
        """Hear the verdict that the training hangs, or that none stands; called by the thread."""

    # ---- Shared, under the lock

    def _order(self, place: Place, is_clean: Callable[[], bool]) -> Order:
        needs = self._state.standing is machine.Standing.BOUND
        self._state, said, order = machine.at_boundary(
            self._state, place, is_clean=needs and is_clean()
        )
        self._note(said)
        return order

    def _say(self, step: Step) -> None:
        """Take a step of the machine."""
        self._state, said = step
        self._note(said)

    def _note(self, said: tuple[Up, ...]) -> None:
        self.is_raised = not self._state.is_free
        if said:
            self._unsent += said
            self._wake()
        self._changed.notify_all()

    def _seconds_left(self) -> float | None:
        return None if math.isinf(self._deadline) else self.seconds_left()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the thread has ended, or has a wakeup already
            self._wakes.send(b"\0")

    # ---- The thread

    def _run(self) -> None:
        try:
            self._live()  # also of a script that is over already: it has a last place
            while not self._is_over:
                self._live()
        except Exception:
            log.exception("the control channel of rank %d has failed", self._rank)
        finally:
            self._give_up()
            self._release()

    def _give_up(self) -> None:
        """Let the main thread go on, or fail if it waits for a decision of all ranks."""
        with self._changed:
            self._say(machine.disconnect(self._state))
            if self._state.timer is not None:
                self._say(machine.expire(self._state, self._state.timer))

    def _live(self) -> None:
        """Connect, and stay connected as long as possible."""
        try:
            if not self._connect():
                self._pause()
                return
            while not self._is_over:
                self._turn()
        except (OSError, ProtocolError) as error:
            log.debug("the connection to the coordinator has ended: %s", error)
            self._pause()
        finally:
            self._disconnect()

    def _connect(self) -> bool:
        address = self._find()
        if address is None:
            return False
        self._is_let_in, self._heard_at = False, time.monotonic()
        sock = socket.create_connection((address.host, address.port), _CONNECT_SECONDS)
        self._connection = Connection(sock)
        self._connection.send(replace(self._own, life=address.life).hello(self._rank))
        return True

    def _greeted(self) -> None:
        """Say again what is open, because the coordinator has let this rank in."""
        with self._changed:
            self._unsent = list(self._facts.values())
            self._say(machine.connect(self._state, self._seconds_left()))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._flush()
            self._connection.close()
            self._connection = None
        with self._changed:
            self._say(machine.disconnect(self._state))

    def _flush(self) -> None:
        """Say the last place and the last words, if that is possible."""
        with contextlib.suppress(OSError, ProtocolError):
            if self._is_over:
                self._connected().send(self._beat(Place(*self.mark)))
            self._send()

    def _pause(self) -> None:
        """Wait before the next try; timers go on."""
        until = time.monotonic() + _RETRY_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._reads, selectors.EVENT_READ)
            while not self._is_over and (left := until - time.monotonic()) > 0:
                self._expire()
                if selector.select(min(left, self._seconds_to_expiry())):
                    self._reads.recv(4096)

    def _turn(self) -> None:
        """Beat, and handle what arrives until the next beat."""
        connection = self._connected()
        if self._is_let_in:
            connection.send(self._beat(Place(*self.mark)))
        until = time.monotonic() + _BEAT_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._reads, selectors.EVENT_READ)
            while not self._is_over and (left := until - time.monotonic()) > 0:
                was_let_in = self._is_let_in
                if was_let_in:
                    self._send()
                writes = selectors.EVENT_WRITE if connection.has_unsent else 0
                selector.register(connection.sock, selectors.EVENT_READ | writes)
                ready = selector.select(min(left, self._seconds_to_expiry()))
                selector.unregister(connection.sock)
                self._exchange(connection, {key.fileobj for key, _ in ready})
                self._expire()
                if self._is_let_in and not was_let_in:
                    return  # beat at once

    def _exchange(self, connection: Connection, ready: set[object]) -> None:
        if self._reads in ready:
            self._reads.recv(4096)
        if connection.sock in ready:
            connection.flush()
            for message in connection.receive():
                self._take(connection, message)
        if time.monotonic() - self._heard_at > self._timeouts.silence:
            raise ConnectionResetError("the coordinator says nothing any more")

    def _take(self, connection: Connection, message: Message) -> None:
        """Act on a message of the coordinator.

        Raises:
            ProtocolError: a coordinator does not say this.
        """
        self._heard_at = time.monotonic()
        if not self._is_let_in:
            self._is_let_in = True
            self._greeted()
        if isinstance(message, Collect):
            connection.send(Whereabouts(self._report()))
        elif isinstance(message, Compare):
            connection.send(self._tables.compared(message))
        elif isinstance(message, Judged):
            self.on_hang(message.hang)
        elif isinstance(message, Down):
            self._hear(message)
        elif not isinstance(message, Alive):
            raise ProtocolError(f"a coordinator must not say {type(message).__name__}")

    def _hear(self, message: Down) -> None:
        with self._changed:
            self._say(machine.hear(self._state, message))
        # The hold is raised now. Only then is the place read: see `machine.hear`.
        with self._changed:
            self._say(machine.answer(self._state, Place(*self.mark)))

    def _send(self) -> None:
        with self._changed:
            unsent, self._unsent = self._unsent, []
        connection = self._connected()
        for message in unsent:
            connection.send(message)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise ConnectionResetError("there is no connection")
        return self._connection

    def _expire(self) -> None:
        """Let the timer of the state go off if it is over."""
        with self._changed:
            timer, now = self._state.timer, time.monotonic()
            if timer != self._timer:
                self._timer = timer
                limit = math.inf if timer is None else self._timeouts.seconds(timer.wait)
                self._expires = now + limit
            if timer is not None and now >= self._expires:
                self._say(machine.expire(self._state, timer))

    def _seconds_to_expiry(self) -> float:
        if self._state.timer != self._timer:
            return 0.0
        left = self._expires - time.monotonic()
        return 3600.0 if math.isinf(left) else max(0.0, left)

    def _release(self) -> None:
        """Close the sockets; also in a forked child, which must not keep the connection open."""
        if self._connection is not None:
            self._connection.close()
        self._reads.close()
        self._wakes.close()
