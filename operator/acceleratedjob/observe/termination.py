"""Reads the termination message of a training container.

The runtime (`runtime.world.last_words`) writes one JSON object. The message comes from inside a pod
and is not trusted: its length is bounded, its types are checked, and any other content is shown as
plain text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 4096  # the kubelet's limit for the message of one container
MAX_TYPE = 128  # characters
MAX_MESSAGE = 512
MAX_TRACEBACK = 2048  # the end is kept
MAX_SAID = 512  # for a message that is plain text
MAX_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """The exception that ended a process.

    Attributes:
        exception: the type of the exception.
        message: the message of the exception.
        traceback: the end of the traceback.
        rank: the rank of the process.
        step: the training step.
    """

    exception: str
    message: str = ""
    traceback: str = ""
    rank: int | None = None
    step: int | None = None

    @property
    def sentence(self) -> str:
        """The type and the message, as Python prints them."""
        return f"{self.exception}: {self.message}" if self.message else self.exception


def last_part(text: str) -> str:
    r"""Return the last MAX_SAID characters of a text, which usually contain the exception.

    >>> last_part("a" * 600 + "\nRuntimeError: the cause")[-24:]
    '\nRuntimeError: the cause'
    """
    said = text.strip()
    return said if len(said) <= MAX_SAID else "…" + said[1 - MAX_SAID :]


def read_last_words(text: str) -> LastWords | None:
    """Return the exception in a termination message; None if the message is something else."""
    if not text.startswith("{") or len(text) > MAX_BYTES:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):  # truncated, nested too deeply, or not from the runtime
        return None
    exception = _text(told, "exception")
    if not exception:
        return None
    return LastWords(
        exception=exception[:MAX_TYPE],
        message=_text(told, "message")[:MAX_MESSAGE],
        traceback=_text(told, "traceback")[-MAX_TRACEBACK:],
        rank=_number(told, "rank"),
        step=_number(told, "step"),
    )


def _text(told: Mapping[str, Any], name: str) -> str:
    """Return a string that can be encoded: lone surrogates, which JSON allows, are replaced."""
    value = told.get(name)
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _number(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    return value if type(value) is int and 0 <= value <= MAX_NUMBER else None
