"""Send the batches that rank 0 has read to the other ranks while the step before is computed.

Rank 0 sends one message per step to each other rank and keeps its own part. A receiver has a buffer
of the previous message's length ready, so most messages need no exchange of their length. The rest
of a longer message is sent as a second piece.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import distributed

from runtime.data.dispatch import messages
from runtime.data.dispatch.messages import READING_FAILED, Received, Step
from runtime.world.coordinate import DataCoordinate
from runtime.world.roll_call import Collective

_FIRST = 2**16  # bytes of the buffer for the first message
_TAG = 0x64617461  # distinguishes these messages from those that a script sends
_TURNS = 2  # the number of steps whose messages may be in flight at once


class Channel(Protocol):
    """One rank's end; all ranks receive the same number of parts and then close their ends."""

    def receive(self) -> Received | None:
        """Return this rank's next part; None at the end.

        Raises:
            RuntimeError: rank 0 could not read; rank 0 itself raises the original error.
        """
        ...

    def close(self) -> None:
        """Wait for the messages in flight."""
        ...


class Sender:
    """Rank 0's end; if rank 0 cannot read, it tells the others, which would wait otherwise."""

    def __init__(self, steps: Iterator[Step], coordinate: DataCoordinate) -> None:
        """Read the first step and begin to send it.

        Args:
            steps: the steps that rank 0 reads, with a part for each data-parallel rank.
            coordinate: which ranks get the same part.
        """
        self._steps = steps
        self._coordinate = coordinate
        self._error: Exception | None = None
        self._others = range(1, distributed.get_world_size())
        self._ready = dict.fromkeys(self._others, _FIRST)  # bytes of each rank's buffer
        self._buffers = [messages.Buffer() for _ in range(_TURNS * len(self._others))]
        self._works: list[list[Any]] = [[] for _ in range(_TURNS)]  # of each step, oldest first
        self._is_over = False
        self._next = self._read()
        with Collective("dispatch"):
            self._send()

    def _read(self) -> Step | None:
        try:
            return next(self._steps, None)
        except Exception as error:  # noqa: BLE001  # `receive` raises it again
            self._error = error
            return None

    def receive(self) -> Received | None:
        """See `Channel`."""
        if self._is_over:
            return None
        step, error = self._next, self._error
        self._is_over = step is None or step.is_last
        if not self._is_over:
            self._next = self._read()
        with Collective("dispatch"):  # all ranks must enter this equally often
            if not self._is_over:
                self._send()
        if error is not None:
            raise error
        return None if step is None else messages.own_part(step)

    def _send(self) -> None:
        """Begin to send the next step's messages, and reuse the buffers of an earlier step."""
        _wait(self._works.pop(0))
        self._works.append([])
        for rank, message in zip(self._others, self._messages(), strict=True):
            for piece in _pieces(message, self._ready[rank]):
                self._works[-1].append(distributed.isend(piece, rank, tag=_TAG))
            self._ready[rank] = len(message)

    def _messages(self) -> list[torch.Tensor]:
        """Return a message for each other rank, which contains its part or says there is none."""
        if self._next is not None:
            count = len(self._others)
            buffers, self._buffers = self._buffers[:count], self._buffers[count:]
            self._buffers += buffers
            try:
                parts = [self._next.parts[self._coordinate.rank_of(one)] for one in self._others]
                return [
                    buffer.filled(part, self._next)
                    for buffer, part in zip(buffers, parts, strict=True)
                ]
            except Exception as error:  # noqa: BLE001  # as in `_read`
                self._next, self._error = None, error
        return [messages.without_part(failed=self._error is not None)] * len(self._others)

    def close(self) -> None:
        """See `Channel`."""
        with Collective("dispatch"):
            for works in self._works:
                _wait(works)


class Receiver:
    """The end of any rank other than 0."""

    def __init__(self) -> None:
        """Begin to receive the first message."""
        self._buffer: torch.Tensor | None = None
        self._work: Any = None
        with Collective("dispatch"):
            self._expect(_FIRST)

    def _expect(self, length: int) -> None:
        self._buffer = torch.empty(length, dtype=torch.uint8)
        self._work = distributed.irecv(self._buffer, 0, tag=_TAG)

    def receive(self) -> Received | None:
        """See `Channel`."""
        if self._buffer is None:
            return None
        with Collective("dispatch"):
            message = self._received()
        length = messages.length(message)
        if length == READING_FAILED:
            sentence = "rank 0 could not read its data loader: see the log of rank 0"
            raise RuntimeError(sentence)
        if not length:
            return None
        part = messages.decoded(message)
        if not part.is_last:
            self._expect(length)
        return part

    def _received(self) -> torch.Tensor:
        """Wait for the message in flight and return it, including a second piece."""
        buffer, self._buffer = self._buffer, None
        assert buffer is not None  # noqa: S101  # for mypy
        _wait([self._work])
        length = messages.length(buffer)
        if length <= len(buffer):
            return buffer
        whole = torch.empty(length, dtype=torch.uint8)
        rest = distributed.irecv(whole[len(buffer) :], 0, tag=_TAG)
        whole[: len(buffer)] = buffer
        _wait([rest])
        return whole

    def close(self) -> None:
        """See `Channel`."""
        with Collective("dispatch"):
            if self._buffer is not None:
                self._received()


def _wait(works: list[Any]) -> None:
    for work in works:
        work.wait()


def _pieces(message: torch.Tensor, ready: int) -> list[torch.Tensor]:
    """Split a message into the piece that fits in the receiver's buffer, and the rest."""
    return [message[:ready], message[ready:]] if len(message) > ready else [message]
