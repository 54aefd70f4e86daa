"""Reads the termination message of a training container.

The runtime (`runtime.world.last_words`) writes one JSON object: the exception that has ended a
process, or {"stopped": {"step": ...}} if it has stopped on request, with a checkpoint, or
{"stopped": {}} if its script has, which knows itself from where it goes on; beside them
{"hang": {...}}, if the training hung, and {"progress": ...}, which tells how far it came.
The message comes from inside a pod and is not trusted: its length is bounded, its types are
checked, and any other content is shown as plain text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from acceleratedjob.api.times import format_time
from acceleratedjob.observe.progress import Progress, read_last_progress
from acceleratedjob.terminal import plain

MAX_BYTES = 4096  # the kubelet's limit for the message of one container
MAX_TYPE = 128  # characters
MAX_MESSAGE = 512
MAX_TRACEBACK = 2048  # the end is kept
MAX_SAID = 512  # for a message that is plain text
MAX_NUMBER = 2**31 - 1
MAX_PLACE = 300  # characters of a file, a node, a call
HANGS = "Hang"  # the exception of a message that says nothing but the verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """The exception that ended a process.

    Attributes:
        exception: the type of the exception.
        message: the message of the exception.
        traceback: the end of the traceback.
        rank: the rank of the process.
        step: the number of completed training steps; None before the training.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """The verdict that the training hung when the container ended.

    Attributes:
        rank: the rank that the others waited for.
        node: its node; empty if it is not known.
        file: the source file that it was in; empty if it is not known.
        line: the line in it.
        since: when it last came forward; None if that is not known.
        waits_in: what the others waited in; empty if it is not known.
    """

    rank: int
    node: str = ""
    file: str = ""
    line: int | None = None
    since: datetime | None = None
    waits_in: str = ""

    @property
    def sentence(self) -> str:
        """The verdict in words, as the end of a sentence."""
        node = f" on node {self.node}" if self.node else ""
        line = "" if self.line is None else f":{self.line}"
        at = f" in {self.file}{line}" if self.file else ""
        since = "" if self.since is None else f" since {format_time(self.since)}"
        others = f"; the others waited in {self.waits_in}" if self.waits_in else ""
        return f"the training hung at rank {self.rank}{node}{at}{since}{others}"


def last_part(text: str) -> str:
    r"""Return the last MAX_SAID characters of a text, which usually contain the exception.

    >>> last_part("a" * 600 + "\nRuntimeError: the cause")[-24:]
    '\nRuntimeError: the cause'
    """
    said = text.strip()
    return said if len(said) <= MAX_SAID else "…" + said[1 - MAX_SAID :]


def read_last_words(text: str) -> LastWords | None:
    """Return the exception in a termination message; None if the message is something else."""
    told = _decoded(text)
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


def read_stopped(text: str) -> int | None:
    """Return the step of the checkpoint with which the runtime has stopped on request.

    None if the message says something else.
    """
    stopped = _decoded(text).get("stopped")
    return _number(stopped, "step") if isinstance(stopped, dict) else None


def says_stopped(text: str) -> bool:
    """Return whether a process says that it has stopped on request, with a checkpoint or not."""
    return isinstance(_decoded(text).get("stopped"), dict)


def read_hang(text: str) -> Hang | None:
    """Return the verdict that the training hung; None if the message has none."""
    told = _decoded(text).get("hang")
    rank = _number(told, "rank") if isinstance(told, dict) else None
    if not isinstance(told, dict) or rank is None:
        return None
    return Hang(
        rank=rank,
        node=_place(told, "node"),
        file=_place(told, "file"),
        line=_number(told, "line"),
        since=_time(told, "since"),
        waits_in=_place(told, "waitsIn"),
    )


def _place(told: Mapping[str, Any], name: str) -> str:
    """Return a short text in one line."""
    return " ".join(plain(_text(told, name)[:MAX_PLACE]).split())


def _time(told: Mapping[str, Any], name: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(_text(told, name))
        return None if found.utcoffset() is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_final(text: str) -> Progress | None:
    """Return how far a training came; None if the message does not say so."""
    told = _decoded(text)
    return read_last_progress(told["progress"]) if "progress" in told else None


def _decoded(text: str) -> Mapping[str, Any]:
    """Return the JSON object in a termination message; an empty one if it is something else."""
    if not text.startswith("{") or len(text) > MAX_BYTES:
        return {}
    try:
        told: Mapping[str, Any] = json.loads(text)
    except (ValueError, RecursionError):  # truncated, nested too deeply, or not from the runtime
        return {}
    return told


def _text(told: Mapping[str, Any], name: str) -> str:
    """Return a string that can be encoded: lone surrogates, which JSON allows, are replaced."""
    value = told.get(name)
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _number(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    return value if type(value) is int and 0 <= value <= MAX_NUMBER else None
