"""How what rank 0 has read for one step comes to each rank, while the step before it is computed.

A message goes from rank 0 to one rank. What a rank has for itself it does not send to itself. The
receiver has a buffer ready of the length of the message before it, so that most messages come whole
without a word about their length; what a longer one has more comes as a second piece.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import distributed

from runtime.data.dispatch import messages
from runtime.data.dispatch.messages import READING_FAILED, Part, Step
from runtime.world.roll_call import Collective

_FIRST = 2**16  # bytes that are ready for the first message
_TAG = 0x64617461  # apart from what a script sends by itself
_TURNS = 2  # steps whose messages may be under way at once


class Channel(Protocol):
    """One rank's end; all ranks take as many parts out of theirs, and close it then."""

    def receive(self) -> Part | None:
        """This rank's next part; None at the end.

        Raises:
            RuntimeError: rank 0 could not read on; there, its own error.
        """
        ...

    def close(self) -> None:
        """Wait for what is under way."""
        ...


class Sender:
    """Rank 0's end. If it cannot read on, the others hear of it, and do not wait for ever."""

    def __init__(self, steps: Iterator[Step]) -> None:
        """Args: steps: what it reads."""
        self._steps = steps
        self._error: Exception | None = None
        self._others = range(1, distributed.get_world_size())
        self._ready = dict.fromkeys(self._others, _FIRST)  # bytes, of each receiver
        self._buffers = [messages.Buffer() for _ in range(_TURNS * len(self._others))]
        self._works: list[list[Any]] = [[] for _ in range(_TURNS)]  # the oldest first
        self._is_over = False
        self._next = self._read()
        with Collective("dispatch"):
            self._send()

    def _read(self) -> Step | None:
        try:
            return next(self._steps, None)
        except Exception as error:  # noqa: BLE001  # raised again, when the others know
            self._error = error
            return None

    def receive(self) -> Part | None:
        """See `Channel`."""
        if self._is_over:
            return None
        step, error = self._next, self._error
        self._is_over = step is None or step.is_last
        if not self._is_over:
            self._next = self._read()
        with Collective("dispatch"):  # as often as the others
            if not self._is_over:
                self._send()
        if error is not None:
            raise error
        return None if step is None else messages.own_part(step)

    def _send(self) -> None:
        """Have the next step's messages under way; the buffers of one before are used again."""
        _wait(self._works.pop(0))
        self._works.append([])
        for rank, message in zip(self._others, self._messages(), strict=True):
            for piece in _pieces(message, self._ready[rank]):
                self._works[-1].append(distributed.isend(piece, rank, tag=_TAG))
            self._ready[rank] = len(message)

    def _messages(self) -> list[torch.Tensor]:
        """One for each other rank: its part, or that there is none."""
        if self._next is not None:
            count = len(self._others)
            buffers, self._buffers = self._buffers[:count], self._buffers[count:]
            self._buffers += buffers
            try:
                return [
                    buffer.filled(part, self._next)
                    for buffer, part in zip(buffers, self._next.parts[1:], strict=True)
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
    """The end of any other rank."""

    def __init__(self) -> None:
        """Be ready for the first message."""
        self._buffer: torch.Tensor | None = None
        self._work: Any = None
        with Collective("dispatch"):
            self._expect(_FIRST)

    def _expect(self, length: int) -> None:
        self._buffer = torch.empty(length, dtype=torch.uint8)
        self._work = distributed.irecv(self._buffer, 0, tag=_TAG)

    def receive(self) -> Part | None:
        """See `Channel`."""
        if self._buffer is None:
            return None
        with Collective("dispatch"):
            message = self._received()
        length = messages.length(message)
        if length == READING_FAILED:
            sentence = "rank 0 could not read its data loader: its own log says why"
            raise RuntimeError(sentence)
        if not length:
            return None
        part = messages.decoded(message)
        if not part.is_last:
            self._expect(length)
        return part

    def _received(self) -> torch.Tensor:
        """The message that is under way, whole."""
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
    """What goes into the receiver's buffer, and what does not."""
    return [message[:ready], message[ready:]] if len(message) > ready else [message]
