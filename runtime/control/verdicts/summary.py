"""A verdict on a hang in few words, for the termination messages of all pods.

It comes to a pod over a socket: it is read strictly, and bounded so that it fits into a termination
message beside an exception.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from runtime.control.frames import printable
from runtime.control.verdicts.verdict import Verdict

_LONGEST: Mapping[str, int] = {  # characters
    "node": 253,  # as in Kubernetes
    "file": 240,
    "function": 100,
    "waits_in": 200,
    "since": 40,
    "message": 512,
}
_COUNTS = ("rank", "replica", "line")
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Which rank the others wait for.

    Attributes:
        rank: the rank.
        replica: the index of its pod; None if it is unknown.
        node: the node of its pod; empty if it is unknown.
        file: the source file that it is in; empty if it is unknown.
        line: the line; None if it is unknown.
        function: the function; empty if it is unknown.
        since: when it last moved, in ISO 8601 with the time zone.
        waits_in: what most of the others wait in; empty if it is unknown.
        message: a sentence for people.

    Raises:
        ValueError: a number is negative or too large, or a text is too long or not printable ASCII.
    """

    rank: int
    replica: int | None
    node: str
    file: str
    line: int | None
    function: str
    since: str
    waits_in: str
    message: str

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in _COUNTS:
            _check_count(name, getattr(self, name), may_lack=name != "rank")
        for name, longest in _LONGEST.items():
            _check_text(name, getattr(self, name), longest)
        if datetime.fromisoformat(self.since).utcoffset() is None:
            raise ValueError(f"since must have a time zone, got {self.since}")

    @classmethod
    def of(cls, verdict: Verdict, at: datetime) -> "Summary":
        """Return a verdict in few words.

        Args:
            verdict: the verdict.
            at: when it was given, with the time zone.
        """
        frame, home = verdict.at, verdict.home
        texts = {
            "node": home.node if home else "",
            "file": printable(frame.file)[-_LONGEST["file"] :] if frame else "",
            "function": frame.function if frame else "",
            "waits_in": verdict.waits_in,
            "since": (at - timedelta(seconds=verdict.seconds)).isoformat(timespec="seconds"),
            "message": str(verdict),
        }
        return cls(
            rank=verdict.rank,
            replica=home.replica if home else None,
            line=frame.line if frame else None,
            **{name: printable(one)[: _LONGEST[name]] for name, one in texts.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what `read` reads, for JSON."""
        return {
            "rank": self.rank,
            "replica": self.replica,
            "node": self.node,
            "file": self.file,
            "line": self.line,
            "function": self.function,
            "since": self.since,
            "waitsIn": self.waits_in,
            "message": self.message,
        }


def read(told: object) -> Summary:
    """Return the verdict that the coordinator has sent.

    Args:
        told: what `Summary.as_dict` has returned there, from JSON.

    Raises:
        ValueError: it is no verdict, or exceeds a bound.
    """
    names = {"rank", "replica", "node", "file", "line", "function", "since", "waitsIn", "message"}
    if not isinstance(told, dict) or told.keys() != names:
        raise ValueError(f"a verdict must have {sorted(names)}, got {told!r:.200}")
    values = dict(told)
    return Summary(waits_in=values.pop("waitsIn"), **values)


def _check_count(name: str, value: object, *, may_lack: bool) -> None:
    is_count = type(value) is int and 0 <= value <= _LARGEST
    if not is_count and not (value is None and may_lack):
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r:.100}")


def _check_text(name: str, value: object, longest: int) -> None:
    if not isinstance(value, str) or len(value) > longest or printable(value) != value:
        sentence = f"{name} must be at most {longest} printable ASCII characters"
        raise ValueError(f"{sentence}, got {value!r:.100}")
