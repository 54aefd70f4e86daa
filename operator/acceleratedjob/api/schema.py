"""Parses a mapping of a manifest into a frozen dataclass, and formats it again.

The dataclass is the schema: the field `max_restarts` is the key `maxRestarts`, and its annotation
(`Annotated[int, integer(minimum=0)]`) contains the reader, which validates and converts the value.
An invalid value raises InvalidSpec with the path of the field. The API server rejects the same
manifests: tests/contract/test_crd.py compares the two.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

from acceleratedjob.api.names import KIND
from acceleratedjob.api.times import is_time
from acceleratedjob.errors import InvalidSpec, shown

MAX_KEY = 256  # characters of an unknown key that are shown
MAX_ITEMS = 1024  # the default maximum length of a list
MAX_FAULTS = 100  # the faults of a manifest that are told
NO_FIELD = "is not a field of"  # how the message about an unknown key begins
MAX_NAMES = 24  # the fields that the message about an unknown one lists
MAX_COUNT = 2**53 - 1  # the largest whole number that every JSON decoder reads exactly
T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # (value, path) -> value; raises InvalidSpec


class Faults:
    """Collects the faults of a manifest, and raises them together when its block ends.

    >>> try:
    ...     with Faults() as faults:
    ...         faults.of(integer(minimum=1), 0, "a")
    ...         faults.of(boolean, "no", "b")
    ... except InvalidSpec as error:
    ...     [fault.field for fault in error.all]
    ['a', 'b']
    """

    def __init__(self) -> None:
        self.found: list[InvalidSpec] = []

    def of(self, reader: Callable[..., Any], *arguments: Any) -> Any:
        """Call a reader, and return its result; None if it finds a fault, which is kept.

        Raises:
            InvalidSpec: MAX_FAULTS were found.
        """
        try:
            return reader(*arguments)
        except InvalidSpec as error:
            self.found += error.all
        if len(self.found) >= MAX_FAULTS:
            self.check()
        return None

    def add(self, path: str, message: str) -> None:
        """Keep a fault."""
        self.found.append(InvalidSpec(path, message))

    def check(self) -> None:
        """Raise the faults, if there are any.

        Raises:
            InvalidSpec: there are.
        """
        if self.found:
            first, *others = self.found[:MAX_FAULTS]
            raise InvalidSpec(first.field, first.message, others)

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.check()


def key(name: str) -> str:
    """Return the key in the manifest for the name of a field.

    >>> key("max_restarts")
    'maxRestarts'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def read(cls: type[T], value: object, path: str, *, whole: bool = True) -> T:
    """Build `cls` from a mapping; absent and null fields take their defaults.

    Args:
        cls: the dataclass.
        value: the mapping.
        path: the path of the mapping, for errors.
        whole: whether an unknown key is an error; otherwise unknown keys are ignored.

    Raises:
        InvalidSpec: a key is unknown, a required key is missing, or a value is invalid.
    """
    given = mapping(value, path)
    fields = _fields(cast("Any", cls))
    kept = {}
    with Faults() as faults:
        if whole:
            faults.of(check_known, given, fields, path)
        for name, (field, reader) in fields.items():
            if given.get(name) is not None:
                kept[field.name] = faults.of(reader, given[name], f"{path}.{name}")
            elif field.default is dataclasses.MISSING:
                faults.add(f"{path}.{name}", "is required")
    return cls(**kept)


def readable(cls: type[Any], value: object) -> dict[str, Any]:
    """Return the valid fields of a mapping whose other fields may be invalid."""
    given = value if isinstance(value, Mapping) else {}
    kept = {}
    for name, (field, reader) in _fields(cast("Any", cls)).items():
        if given.get(name) is not None:
            with contextlib.suppress(InvalidSpec):
                kept[field.name] = reader(given[name], name)
    return kept


@functools.cache
def _fields(cls: Any) -> dict[str, tuple["dataclasses.Field[Any]", Reader]]:
    """Return the fields of a dataclass by key, each with its reader."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        key(field.name): (field, hints[field.name].__metadata__[0])
        for field in dataclasses.fields(cls)
    }


def dump(value: Any) -> Any:
    """Format a dataclass for a manifest: camelCase keys, without None and empty values."""
    if dataclasses.is_dataclass(value):
        pairs = ((key(f.name), dump(getattr(value, f.name))) for f in dataclasses.fields(value))
        return {name: item for name, item in pairs if item is not None and item != []}
    if isinstance(value, tuple | list):
        return [dump(item) for item in value]
    return value


def check_known(given: Mapping[str, Any], fields: Mapping[str, object], path: str) -> None:
    """Check that all keys are fields.

    Raises:
        InvalidSpec: a key is unknown; the message suggests a similar field.
    """
    with Faults() as faults:
        for name in given:
            if name not in fields:
                at = f"{path}.{name}" if path else str(name)
                hint = suggestion(str(name), fields) or _listed(fields)
                faults.add(at, f"{NO_FIELD} {path or KIND}{hint}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message, which suggests a similar name; empty if none is similar.

    >>> suggestion("Replica", ["replicas", "suspend"]), suggestion("x", ["y"])
    ('; did you mean replicas?', '')
    """
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name[:MAX_KEY].replace("_", "").lower(), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""


def _listed(known: Mapping[str, object]) -> str:
    return f", which has {', '.join(known)}" if len(known) <= MAX_NAMES else ""


def anything(value: object, _path: str) -> object:
    """Return any value unchanged, for fields that are validated elsewhere."""
    return value


def mapping(value: object, path: str) -> Mapping[str, Any]:
    """Read a mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidSpec(path, f"must be a mapping, got {shown(value)}")
    return value


def mapping_of(item: Reader) -> Reader:
    """Return a reader of a mapping whose values have one type or are null."""

    def reader(value: object, path: str) -> Mapping[str, Any]:
        given = mapping(value, path)
        with Faults() as faults:
            for name, entry in given.items():
                if entry is not None:
                    faults.of(item, entry, f"{path}[{name[:MAX_KEY]}]")
        return given

    return reader


def partly(
    readers: Mapping[str, Reader], *, required: Sequence[str] = (), whole: bool = False
) -> Reader:
    """Return a reader that validates some keys of a mapping, and returns the mapping unchanged.

    Args:
        readers: the reader of each key.
        required: the keys that must be set.
        whole: whether any other key is an error.
    """

    def reader(value: object, path: str) -> Mapping[str, Any]:
        given = mapping(value, path)
        with Faults() as faults:
            if whole:
                faults.of(check_known, given, readers, path)
            for name in required:
                if given.get(name) is None:
                    faults.add(f"{path}.{name}", "is required")
            for name, item in readers.items():
                if given.get(name) is not None:
                    faults.of(item, given[name], f"{path}.{name}")
        return given

    return reader


def section(cls: type[Any], *, whole: bool = True) -> Reader:
    """Return a reader of a nested dataclass."""
    return lambda value, path: read(cls, value, path, whole=whole)


def integer(minimum: int, maximum: int = 2**31 - 1) -> Reader:
    """Return a reader of an integer in [minimum, maximum]."""

    def reader(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidSpec(path, f"must be a whole number, got {shown(value)}")
        if not minimum <= value <= maximum:
            raise InvalidSpec(path, f"must be between {minimum} and {maximum}, got {shown(value)}")
        return value

    return reader


def number(minimum: float, maximum: float = math.inf) -> Reader:
    """Return a reader of a finite number in [minimum, maximum], which is read as a float.

    A number above MAX_COUNT is read as MAX_COUNT, and one below -MAX_COUNT as -MAX_COUNT.
    """

    def reader(value: object, path: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or value - value != 0:
            raise InvalidSpec(path, f"must be a finite number, got {shown(value)}")
        if not minimum <= value <= maximum:
            raise InvalidSpec(path, f"must be between {minimum} and {maximum}, got {shown(value)}")
        return float(max(-MAX_COUNT, min(value, MAX_COUNT)))

    return reader


def time(value: object, path: str) -> str:
    """Read a time in UTC with whole seconds, as the API writes it."""
    if not isinstance(value, str) or not is_time(value):
        raise InvalidSpec(path, f"must be a time such as 2026-01-02T03:04:05Z, got {shown(value)}")
    return value


def boolean(value: object, path: str) -> bool:
    """Read a boolean."""
    if not isinstance(value, bool):
        raise InvalidSpec(path, f"must be true or false, got {shown(value)}")
    return value


def string(value: object, path: str) -> str:
    """Read a string."""
    return text(r"(?s:.*)", "a string")(value, path)  # type: ignore[no-any-return]  # it is one


def choice(*allowed: str) -> Reader:
    """Return a reader of one of a few strings."""

    def reader(value: object, path: str) -> str:
        if value not in allowed:
            hint = suggestion(value, allowed) if isinstance(value, str) else ""
            known = f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0]
            sentence = f"must be {known}, got {shown(value)}{hint}"
            raise InvalidSpec(path, sentence)
        return str(value)

    return reader


def text(pattern: str, what: str, *, at_most: int | None = None) -> Reader:
    """Return a reader of a string that matches a pattern.

    Args:
        pattern: the regular expression that the whole string must match.
        what: a description of such strings, for errors.
        at_most: the maximum length.
    """

    def reader(value: object, path: str) -> str:
        if not isinstance(value, str):
            raise InvalidSpec(path, f"must be {what}, got {shown(value)}")
        if at_most is not None and len(value) > at_most:  # first: matching takes time
            raise InvalidSpec(path, f"must be at most {at_most} characters, got {len(value)}")
        if not re.fullmatch(pattern, value):
            raise InvalidSpec(path, f"must be {what}, got {shown(value)}")
        return value

    return reader


def list_of(item: Reader, *, at_least: int = 0, at_most: int = MAX_ITEMS) -> Reader:
    """Return a reader of a list, which it returns as a tuple."""

    def reader(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidSpec(path, f"must be a list, got {shown(value)}")
        if not at_least <= len(value) <= at_most:
            sentence = f"must have {at_least} to {at_most} entries, got {len(value)}"
            raise InvalidSpec(path, sentence)
        with Faults() as faults:
            return tuple(faults.of(item, entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return reader
