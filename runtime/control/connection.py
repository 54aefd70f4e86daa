"""A connection of the control channel: lines in, lines out, never blocking."""

import socket

from runtime.control.lines import Lines, ProtocolError, parsed, written
from runtime.control.messages import Message
from runtime.control.wire import decode, encode

_RECEIVED = 2**16  # bytes per read
_UNSENT = 2**20  # bytes that may wait; a peer that reads nothing is dropped


class Connection:
    """A connection that is ready to send and receive messages.

    Attributes:
        sock: the socket, which does not block.
    """

    def __init__(self, sock: socket.socket, received: bytes = b"") -> None:
        """Take over a connected socket.

        Args:
            sock: the socket.
            received: what was read from it before.
        """
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._lines = Lines()
        self._before = received
        self._unsent = b""

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait until the socket can be written."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Send a message, now or when the socket can be written.

        Raises:
            ProtocolError: the other end reads nothing.
        """
        self._unsent += written(encode(message))
        if len(self._unsent) > _UNSENT:
            sentence = f"the other end has not read {len(self._unsent)} bytes"
            raise ProtocolError(sentence)
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without blocking.

        If the connection has ended, `receive` says so behind the messages that have arrived.
        """
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""

    def receive(self) -> list[Message]:
        """Return the messages that have arrived.

        Raises:
            OSError: the connection has ended, and no message is left.
            ProtocolError: the other end has sent something else.
        """
        data, self._before = self._before, b""
        try:
            data += self._read()
        except BlockingIOError:
            if not data:
                return []
        except OSError:
            if not data:
                raise
        return [decode(parsed(line)) for line in self._lines.feed(data)]

    def _read(self) -> bytes:
        data = self.sock.recv(_RECEIVED)
        if not data:
            raise ConnectionResetError("the other end has closed the connection")
        return data

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
