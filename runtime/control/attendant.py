"""A launcher's end of the control channel: it looks at its processes when they do not answer.

It also hears the verdict on a hang, so that every pod can say it if it is ended because of it, and
what the coordinator decides about the lives of all pods.
"""

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from runtime.control.agreement.timers import Timeouts
from runtime.control.connection import Connection
from runtime.control.forks import call_in_children
from runtime.control.lines import ProtocolError
from runtime.control.lives import Order
from runtime.control.messages import (
    Alive,
    Attend,
    Cleared,
    Fell,
    Judged,
    Look,
    Message,
    Retire,
    Seen,
)
from runtime.control.verdicts.report import Report
from runtime.control.verdicts.summary import Summary

log = logging.getLogger(__name__)
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 2.0
_CLOSING_SECONDS = 1.0  # a thread that looks for the coordinator by its name is not waited for
_WAKES = 4096  # bytes
_SILENCE_SECONDS = Timeouts().silence


class Attendant:
    """Attends to the training processes of one pod, in a thread.

    While there is no coordinator it tries again; the training never waits for it.
    """

    def __init__(
        self,
        own: Attend,
        find: Callable[[], tuple[str, int]],
        *,
        look: Callable[[tuple[int, ...]], Mapping[int, Report]],
        on_hang: Callable[[Summary | None], None],
        on_order: Callable[[Order], None],
    ) -> None:
        """Start the thread, which calls all functions.

        Args:
            own: which pod this is.
            find: returns the host and the port of the coordinator.
            look: returns where some of the ranks of this pod are.
            on_hang: called with the verdict that the training hangs, and with None when none
                stands any more. Losing the connection changes nothing.
            on_order: called with what the coordinator orders; the same may come again.
        """
        self._own, self._find = own, find
        self._look, self._on_hang = look, on_hang
        self._hang: Summary | None = None
        self._on_order = on_order
        self._said: Fell | Cleared | Retire | None = (
            None  # and is said again with each new connection
        )
        self._is_over = False
        self._reads, self._wakes = socket.socketpair()
        call_in_children(self._release)
        self._thread = threading.Thread(target=self._run, name="attendant", daemon=True)
        self._thread.start()

    def say(self, message: Fell | Cleared | Retire) -> None:
        """Say something about the life of this pod, now and with each new connection."""
        self._said = message
        self._wake()

    def close(self) -> None:
        """End the thread, in bounded time; a verdict that stands is kept."""
        self._is_over = True
        self._wake()
        self._thread.join(_CLOSING_SECONDS)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # the thread has ended, perhaps just now
            self._wakes.send(b"\0")

    def _release(self) -> None:
        self._reads.close()
        self._wakes.close()

    def _run(self) -> None:
        try:
            while not self._is_over:
                try:
                    self._attend()
                except (OSError, ProtocolError) as error:
                    log.debug("no coordinator: %s", error)
                    self._pause()
        except Exception:
            log.exception(
                "the control channel of the launcher of replica %d has failed", self._own.replica
            )
        finally:
            self._release()

    def _pause(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reads, selectors.EVENT_READ)
            if selector.select(_RETRY_SECONDS):
                self._reads.recv(_WAKES)

    def _attend(self) -> None:
        """Speak to the coordinator until the connection ends.

        Raises:
            OSError: there is no coordinator, or the connection has ended.
            ProtocolError: it is no coordinator.
        """
        sock = socket.create_connection(self._find(), _CONNECT_SECONDS)
        with contextlib.closing(Connection(sock)) as connection, _selector(sock) as selector:
            selector.register(self._reads, selectors.EVENT_READ)
            connection.send(self._own)
            heard, told = time.monotonic(), self._tell(connection, None)
            while not self._is_over:
                selector.modify(sock, _events(connection))
                ready = selector.select(max(0.0, heard + _SILENCE_SECONDS - time.monotonic()))
                if any(key.fileobj is self._reads for key, _ in ready):
                    self._reads.recv(_WAKES)
                told = self._tell(connection, told)
                connection.flush()
                for message in connection.receive():
                    heard = time.monotonic()
                    self._take(connection, message)
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    raise ConnectionResetError("the coordinator says nothing any more")
            self._tell(connection, told)  # it may have been said just before the end

    def _tell(
        self, connection: Connection, told: Fell | Cleared | Retire | None
    ) -> Fell | Cleared | Retire | None:
        """Say what was not told on this connection yet, and return what is told now."""
        said = self._said
        if said is not None and said is not told:
            connection.send(said)
        return said

    def _take(self, connection: Connection, message: Message) -> None:
        """Act on a message of the coordinator.

        Raises:
            ProtocolError: a coordinator does not say this to a launcher.
        """
        if isinstance(message, Look):
            for rank, report in self._look(message.ranks).items():
                connection.send(Seen(rank=rank, report=report))
        elif isinstance(message, Judged):
            if message.hang != self._hang:
                self._hang = message.hang
                self._on_hang(message.hang)
        elif isinstance(message, Order):
            self._on_order(message)
        elif not isinstance(message, Alive):
            raise ProtocolError(f"a coordinator must not say {type(message).__name__}")


def _selector(sock: socket.socket) -> selectors.BaseSelector:
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    return selector


def _events(connection: Connection) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.has_unsent else 0)
