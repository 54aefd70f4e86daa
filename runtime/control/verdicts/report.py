"""What a rank says when it is asked where it is: its stack, and the collectives it has entered.

Reports come over a socket: they are read strictly, and bounded so that one fits into a line of
the control channel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from runtime.control.frames import Frame, Stack, printable

MAX_STACK = 32  # frames in a report
MAX_POSITIONS = 8  # process groups in a report
MAX_TEXT = 200  # characters
_MAX_FILE = 240  # characters of a frame in a report; the end of a path says more than its begin
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last collective that a rank has entered in one process group.

    Attributes:
        group: the name of the process group, equal on all its ranks.
        number: the number of the collective in this group; 0 before the first.
        operation: the name of the collective, for example "all_reduce".
        is_waiting: whether the collective has not ended on this rank.
        is_of_all: whether all ranks of the world are members of the group.

    Raises:
        ValueError: the number is negative, or a name is longer than `MAX_TEXT` characters or not
            printable.
    """

    group: str
    number: int
    operation: str
    is_waiting: bool
    is_of_all: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.number < 0:
            raise ValueError(f"the number of a collective must be at least 0, got {self.number}")
        _check_texts(self.group, self.operation)

    def __str__(self) -> str:
        where = "" if self.is_of_all else f" of group {self.group}"
        return f"{self.operation}, collective {self.number}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a rank is.

    Attributes:
        stack: the stack of its main thread, the most recent call first; empty if there is none.
        excuse: why there is no stack, as far as it is known.
        inside: the operation of the library that the main thread is in, for example
            "gather, its collective 4"; empty outside of all.
        positions: one for each process group that is known.

    Raises:
        ValueError: a text or a list is longer than its bound, or a text is not printable.
    """

    stack: Stack = ()
    excuse: str = ""
    inside: str = ""
    positions: Sequence[Position] = ()

    def __post_init__(self) -> None:
        """Check the bounds."""
        _check_texts(self.excuse, self.inside)
        if len(self.stack) > MAX_STACK or len(self.positions) > MAX_POSITIONS:
            found = f"{len(self.stack)} and {len(self.positions)}"
            sentence = f"a report has at most {MAX_STACK} frames and {MAX_POSITIONS} positions"
            raise ValueError(f"{sentence}, got {found}")

    @classmethod
    def of(
        cls, stack: Stack, *, inside: str = "", positions: Sequence[Position] = (), excuse: str = ""
    ) -> "Report":
        """Return a report that is cut to the bounds: the outermost frames are left out.

        Args:
            stack: the stack of the main thread, the most recent call first.
            inside: the operation of the library that the main thread is in.
            positions: one for each process group.
            excuse: why there is no stack.
        """
        return cls(
            stack=tuple(_cut(frame) for frame in stack[:MAX_STACK]),
            excuse=printable(excuse)[:MAX_TEXT],
            inside=printable(inside)[:MAX_TEXT],
            positions=tuple(positions[:MAX_POSITIONS]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what `read` reads, for JSON."""
        return {
            "stack": [[one.file, one.line, one.function] for one in self.stack],
            "excuse": self.excuse,
            "inside": self.inside,
            "positions": [
                [one.group, one.number, one.operation, one.is_waiting, one.is_of_all]
                for one in self.positions
            ],
        }


def read(told: object) -> Report:
    """Return the report that another process has sent.

    Args:
        told: what `Report.as_dict` has returned there, from JSON.

    Raises:
        ValueError: it is no report, or exceeds a bound.
    """
    fields = _typed(told, dict, "a report")
    if fields.keys() != {"stack", "excuse", "inside", "positions"}:
        names = ", ".join(str(name)[:MAX_TEXT] for name in sorted(fields, key=str)[:8])
        raise ValueError(f"a report must have stack, excuse, inside and positions, got {names}")
    return Report(
        stack=tuple(_rows(fields["stack"], (str, int, str), Frame, MAX_STACK)),
        excuse=_typed(fields["excuse"], str, "excuse"),
        inside=_typed(fields["inside"], str, "inside"),
        positions=tuple(
            _rows(fields["positions"], (str, int, str, bool, bool), _position, MAX_POSITIONS)
        ),
    )


def _position(
    group: str, number: int, operation: str, is_waiting: bool, is_of_all: bool
) -> Position:
    return Position(
        group=group,
        number=number,
        operation=operation,
        is_waiting=is_waiting,
        is_of_all=is_of_all,
    )


def _rows(
    told: object, kinds: Sequence[type], make: Callable[..., _Made], most: int
) -> list[_Made]:
    """Read a list of rows whose values have the given types."""
    rows = _typed(told, list, "stack and positions")
    if len(rows) > most:
        raise ValueError(f"a report may have {most} rows here, got {len(rows)}")
    made = []
    for row in rows:
        values = _typed(row, list, "a row")
        if [type(one) for one in values] != list(kinds):  # bool is not an int here
            raise ValueError(f"a row must have the types {[one.__name__ for one in kinds]}")
        made.append(make(*values))
    return made


def _typed(told: object, kind: type, name: str) -> Any:
    if type(told) is not kind:
        raise ValueError(f"{name} must be a {kind.__name__}, got a {type(told).__name__}")
    return told


def _check_texts(*texts: str) -> None:
    if not all(len(text) <= MAX_TEXT and text.isprintable() for text in texts):
        raise ValueError(f"a text of a report must have at most {MAX_TEXT} printable characters")


def _cut(frame: Frame) -> Frame:
    is_long = len(frame.file) > _MAX_FILE
    file = "..." + frame.file[3 - _MAX_FILE :] if is_long else frame.file
    return Frame(file, frame.line, frame.function[:MAX_TEXT])
