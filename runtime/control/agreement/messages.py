"""The messages of the agreement, and how they are written as JSON.

Decoding is strict: anything but exactly the fields of a known message is a `ValueError`.
"""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from runtime.control.lines import LARGEST
from runtime.control.place import Place

LONGEST = 1000  # characters of a text


class Action(StrEnum):
    """What all ranks do at the same boundary."""

    SAVE = "save"  # save a checkpoint and go on
    STOP = "stop"  # save a checkpoint and leave
    LEAVE = "leave"  # leave at once: there is no time to save


def _shown(found: object) -> str:
    """A value in few words; Python does not write an integer of thousands of digits."""
    try:
        return reprlib.repr(found)
    except ValueError:
        return f"a value of type {type(found).__name__} that is too long to write"


def _check_round(found: object) -> None:
    if type(found) is not int or not 1 <= found <= LARGEST:
        raise ValueError(f"round must be an integer from 1 to 2^53 - 1, got {_shown(found)}")


def _check_place(found: object) -> None:
    if type(found) is not Place:
        raise ValueError(f"place must be a Place, got {_shown(found)}")


def _check_action(found: object, allowed: tuple[Action, ...]) -> None:
    if not isinstance(found, Action) or found not in allowed:
        words = ", ".join(allowed)
        raise ValueError(f"action must be one of {words}, got {_shown(found)}")


def _check_seconds(found: object) -> None:
    is_number = type(found) in (int, float) and 0 <= found <= LARGEST  # type: ignore[operator]
    if found is not None and not is_number:
        shown = _shown(found)
        raise ValueError(
            f"seconds_left must be a finite number of at least 0, or null, got {shown}"
        )


def _check_text(found: object) -> None:
    if type(found) is not str or len(found) > LONGEST or not found.isprintable():
        shown = _shown(found)
        raise ValueError(f"why must be at most {LONGEST} printable characters, got {shown}")


@dataclass(frozen=True, slots=True)
class Wish:
    """A rank wants all ranks to stop, or to save.

    Attributes:
        action: stop or save.
        seconds_left: the time until this rank is killed; None if it is not known, or for a save.
        why: the cause, for the log.

    Raises:
        ValueError: a field is not of its type or range; so for all messages.
    """

    action: Action
    seconds_left: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        """Check the fields."""
        _check_action(self.action, (Action.STOP, Action.SAVE))
        _check_seconds(self.seconds_left)
        _check_text(self.why)


@dataclass(frozen=True, slots=True)
class _OfRound:
    """What belongs to a round.

    Attributes:
        round: the number of the round, >= 1.
    """

    round: int

    def __post_init__(self) -> None:
        """Check the number."""
        _check_round(self.round)


@dataclass(frozen=True, slots=True)
class _AtPlace(_OfRound):
    """What belongs to a round and a place.

    Attributes:
        place: a rank's place, or the place behind which all ranks are to meet.
    """

    place: Place

    def __post_init__(self) -> None:
        """Check the fields."""
        _OfRound.__post_init__(self)
        _check_place(self.place)


class Answer(_AtPlace):
    """The rank holds at its next boundary; its place, read after the hold was raised."""

    __slots__ = ()


class Here(_AtPlace):
    """The rank waits at its target, the first clean boundary behind the decided place."""

    __slots__ = ()


class Late(_OfRound):
    """The rank is not in this round, or no longer."""

    __slots__ = ()


class Saved(_OfRound):
    """The rank's part of the round's save has ended."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Bye:
    """The rank's script has ended, or it leaves."""


class Ask(_OfRound):
    """Hold at the next boundary, and say your place."""

    __slots__ = ()


class Decide(_AtPlace):
    """Go on to the first clean boundary behind this place, and wait there."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Go(_OfRound):
    """All are at their target: do this.

    Attributes:
        action: stop, save or leave.
    """

    action: Action

    def __post_init__(self) -> None:
        """Check the fields."""
        _OfRound.__post_init__(self)
        _check_action(self.action, tuple(Action))


class Cancel(_OfRound):
    """Nothing comes of this round: go on."""

    __slots__ = ()


Up = Wish | Answer | Here | Late | Saved | Bye
Down = Ask | Decide | Go | Cancel
Message = Up | Down

KINDS: Mapping[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Wish, Answer, Here, Late, Saved, Bye, Ask, Decide, Go, Cancel)
}


def encode(message: Message) -> dict[str, object]:
    """A message as JSON writes it; the kind is its class' name in lower case."""
    return {"kind": type(message).__name__.lower(), **asdict(message)}


def decode(found: object) -> Message:
    """The message that a JSON value is.

    Args:
        found: what `json.loads` has returned, of any type.

    Raises:
        ValueError: the value is not exactly what `encode` returns for some message.
    """
    values = _mapping(found, "a message")
    kind = values.pop("kind", None)
    made = KINDS.get(kind) if isinstance(kind, str) else None
    if made is None:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {_shown(kind)}")
    _check_keys(values, {field.name for field in fields(made)}, f"a message of kind {kind}")
    for name in _READ.keys() & values.keys():
        values[name] = _READ[name](values[name])
    return made(**values)  # type: ignore[arg-type]


def _mapping(found: object, what: str) -> dict[str, object]:
    if type(found) is not dict:
        raise ValueError(f"{what} must be a JSON object, got {_shown(found)}")
    return dict(found)


def _check_keys(values: Mapping[str, object], expected: set[str], what: str) -> None:
    if values.keys() != expected:
        names = ", ".join(sorted(expected)) or "no fields"
        raise ValueError(f"{what} must have {names}, got {_shown(sorted(values))}")


def read_place(found: object) -> Place:
    """The place that a JSON value is.

    Raises:
        ValueError: the value is not an object of the two counts.
    """
    values = _mapping(found, "place")
    _check_keys(values, {"steps", "epochs"}, "place")
    for name, value in values.items():
        if type(value) is not int or not 0 <= value <= LARGEST:
            shown = _shown(value)
            raise ValueError(f"{name} must be an integer from 0 to 2^53 - 1, got {shown}")
    return Place(**values)  # type: ignore[arg-type]


def _read_action(found: object) -> Action:
    try:
        return Action(found)  # type: ignore[arg-type]
    except ValueError:
        words = ", ".join(Action)
        raise ValueError(f"action must be one of {words}, got {_shown(found)}") from None


_READ: Mapping[str, Callable[[object], object]] = {"place": read_place, "action": _read_action}
