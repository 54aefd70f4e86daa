"""The framing of the control channel: JSON objects, one on each line, of bounded length."""

import json
from typing import Any

MAX_LINE = 64 * 1024  # bytes, with the end of the line
LARGEST = 2**53 - 1  # the largest whole number that every reader of JSON reads exactly


class ProtocolError(Exception):
    """The other end has sent what is not in the protocol; the connection is closed."""


class Lines:
    """Cuts what a connection has received into lines."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now, without their ends.

        Args:
            data: what was received.

        Raises:
            ProtocolError: a line is longer than `MAX_LINE`.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        longest = max(map(len, (*lines, self._rest)))
        if longest >= MAX_LINE:
            sentence = f"a line must be shorter than {MAX_LINE} bytes, got {longest}"
            raise ProtocolError(sentence)
        return lines


def parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        ProtocolError: the line is not a JSON object.
    """
    try:
        found = strict_json(line)
    except ValueError as error:
        sentence = f"a line must be a JSON object, got {line[:100]!r}"
        raise ProtocolError(sentence) from error
    if not isinstance(found, dict):
        sentence = f"a line must be a JSON object, got {line[:100]!r}"
        raise ProtocolError(sentence)
    return found


def strict_json(text: bytes) -> Any:
    """Return the value in a text, which is not trusted; NaN and Infinity are refused.

    Raises:
        ValueError: it is not JSON, or too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def written(message: dict[str, Any]) -> bytes:
    """Return the line of a JSON object."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _refuse(constant: str) -> Any:
    sentence = f"{constant} is not a number in JSON"
    raise ValueError(sentence)
