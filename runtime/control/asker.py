"""A connection over which someone asks for a page, or to stop: one request, one response."""

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus

from runtime.control import stop_request
from runtime.control.messages import Message
from runtime.control.progress.request import BadRequest, Request, RequestReader
from runtime.control.progress.respond import Page, Response, refuse, respond
from runtime.control.stop_request import StopRequest

_RECEIVED = 2**16  # bytes per read
Stop = Callable[[StopRequest], Response]


class Asker:
    """A connection with one HTTP request; it ends when the response is sent.

    Attributes:
        sock: the socket, which does not block.
    """

    def __init__(
        self, sock: socket.socket, pages: Mapping[str, Page], stop: Stop, received: bytes
    ) -> None:
        """Take over a connected socket.

        Args:
            sock: the socket.
            pages: the pages by their paths.
            stop: acts on a request to stop.
            received: what was read from it before.
        """
        self.sock = sock
        self._pages, self._stop = pages, stop
        self._reader = RequestReader()
        self._head: Request | None = None  # of a request to stop, whose body is being read
        self._unsent = b""
        self._is_answered = False
        self._read(received)

    @property
    def has_unsent(self) -> bool:
        """Whether a part of the response waits until the socket can be written."""
        return bool(self._unsent)

    def receive(self) -> list[Message]:
        """Read a part of the request; returns no messages.

        Raises:
            OSError: the connection has ended.
        """
        try:
            data = self.sock.recv(_RECEIVED)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("the other end has closed the connection")
        if not self._is_answered:
            self._read(data)
        return []

    def flush(self) -> None:
        """Send what can be sent without blocking.

        The other end then closes the connection. If this end did, what it has not read would make
        the system reset the connection, and the response could be lost.

        Raises:
            OSError: the connection has ended.
        """
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            if self._is_answered:
                self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _read(self, data: bytes) -> None:
        response = self._response(data)
        if response is not None:
            self._unsent, self._is_answered = response.encode(), True

    def _response(self, data: bytes) -> Response | None:
        """Return the response if the request is complete."""
        try:
            if self._head is None:
                request = self._reader.feed(data)
                if request is None:
                    return None
                if request.target != stop_request.PATH:
                    return respond(request.method, request.target, self._pages)
                self._head = request
            else:
                self._head = replace(self._head, rest=self._head.rest + data)
            return self._stopped(self._head)
        except BadRequest as error:
            return refuse(error.status, str(error))

    def _stopped(self, request: Request) -> Response | None:
        """Act on a request to stop if its body is complete.

        Raises:
            BadRequest: it is malformed, or too large.
        """
        if request.method != "POST":
            sentence = f"{stop_request.PATH} must be posted"
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, sentence, (("Allow", "POST"),))
        length = stop_request.length_of(request.fields)
        if len(request.rest) < length:
            return None
        return self._stop(stop_request.read_stop(request.rest[:length]))


def cached(page: Page, seconds: float) -> Page:
    """Return a page that is rendered at most once in some time.

    Args:
        page: the page.
        seconds: for how long a rendering is shown.
    """
    content, until = b"", 0.0

    def render() -> bytes:
        nonlocal content, until
        if time.monotonic() >= until:
            content = page.render()
            until = time.monotonic() + seconds
        return content

    return replace(page, render=render)
