"""Parses a mapping of a manifest into a frozen dataclass, and formats it again.

The dataclass is the schema: the field `max_restarts` is the key `maxRestarts`, and its annotation
(`Annotated[int, integer(minimum=0)]`) has the reader that validates and converts the value. An
invalid value raises InvalidSpec with the path of the field. The API server rejects the same
manifests: tests/contract/test_crd.py compares the two.
"""

import contextlib
import dataclasses
import difflib
import functools
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from acceleratedjob.api.names import KIND
from acceleratedjob.errors import InvalidSpec, shown

MAX_KEY = 256  # characters of a key that is shown, and compared with those that there are
MAX_ITEMS = 1024  # of a list, unless it says otherwise
T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # (value, path) -> value; raises InvalidSpec


def key(name: str) -> str:
    """The key in the manifest for the name of a field.

    >>> key("max_restarts")
    'maxRestarts'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def read(cls: type[T], value: object, path: str, *, whole: bool = True) -> T:
    """Build `cls` from a mapping; absent and null fields take their defaults.

    Args:
        cls: what to build.
        value: the mapping.
        path: of it, for errors.
        whole: no other keys may be; else they are left out.

    Raises:
        InvalidSpec: an unknown key, a missing one, or a value that its reader refuses.
    """
    given = mapping(value, path)
    fields = _fields(cast("Any", cls))
    if whole:
        check_known(given, fields, path)
    kept = {}
    for name, (field, reader) in fields.items():
        if given.get(name) is not None:
            kept[field.name] = reader(given[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING:
            raise InvalidSpec(f"{path}.{name}", "is required")
    return cls(**kept)


def readable(cls: type[Any], value: object) -> dict[str, Any]:
    """The valid fields of a mapping whose other fields may be invalid."""
    given = value if isinstance(value, Mapping) else {}
    kept = {}
    for name, (field, reader) in _fields(cast("Any", cls)).items():
        if given.get(name) is not None:
            with contextlib.suppress(InvalidSpec):
                kept[field.name] = reader(given[name], name)
    return kept


@functools.cache
def _fields(cls: Any) -> dict[str, tuple["dataclasses.Field[Any]", Reader]]:
    """The fields of a dataclass by their keys, each with its reader."""
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
    for name in given:
        if name not in fields:
            at = f"{path}.{name}" if path else str(name)
            raise InvalidSpec(at, f"is not a field of {path or KIND}{_suggest(str(name), fields)}")


def _suggest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def anything(value: object, _path: str) -> object:
    """Whatever it is: another has checked it."""
    return value


def mapping(value: object, path: str) -> Mapping[str, Any]:
    """A mapping with string keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidSpec(path, f"must be a mapping, got {shown(value)}")
    return value


def mapping_of(item: Reader) -> Reader:
    """A mapping with values of one kind; null is no value."""

    def reader(value: object, path: str) -> Mapping[str, Any]:
        given = mapping(value, path)
        for name, entry in given.items():
            if entry is not None:
                item(entry, f"{path}[{name[:MAX_KEY]}]")
        return given

    return reader


def partly(
    readers: Mapping[str, Reader], *, required: Sequence[str] = (), whole: bool = False
) -> Reader:
    """A mapping of another's, of which we read these keys; it is returned as it came.

    Args:
        readers: of the keys.
        required: keys that must be there.
        whole: no others may be.
    """

    def reader(value: object, path: str) -> Mapping[str, Any]:
        given = mapping(value, path)
        if whole:
            check_known(given, readers, path)
        for name in required:
            if given.get(name) is None:
                raise InvalidSpec(f"{path}.{name}", "is required")
        for name, item in readers.items():
            if given.get(name) is not None:
                item(given[name], f"{path}.{name}")
        return given

    return reader


def section(cls: type[Any], *, whole: bool = True) -> Reader:
    """A nested dataclass, as `read` takes it."""
    return lambda value, path: read(cls, value, path, whole=whole)


def integer(minimum: int, maximum: int = 2**31 - 1) -> Reader:
    """A whole number in [minimum, maximum]."""

    def reader(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidSpec(path, f"must be a whole number, got {shown(value)}")
        if not minimum <= value <= maximum:
            raise InvalidSpec(path, f"must be between {minimum} and {maximum}, got {shown(value)}")
        return value

    return reader


def boolean(value: object, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidSpec(path, f"must be true or false, got {shown(value)}")
    return value


def string(value: object, path: str) -> str:
    """Any string."""
    return text(r"(?s:.*)", "a string")(value, path)  # type: ignore[no-any-return]  # it is one


def choice(*allowed: str) -> Reader:
    """One of a few words."""

    def reader(value: object, path: str) -> str:
        if value not in allowed:
            raise InvalidSpec(path, f"must be one of {', '.join(allowed)}, got {shown(value)}")
        return str(value)

    return reader


def text(pattern: str, what: str, *, at_most: int | None = None) -> Reader:
    """A string that matches `pattern` from end to end; `what` says so in words."""

    def reader(value: object, path: str) -> str:
        if not isinstance(value, str):
            raise InvalidSpec(path, f"must be {what}, got {shown(value)}")
        if at_most is not None and len(value) > at_most:  # before it is matched, which takes time
            raise InvalidSpec(path, f"must be at most {at_most} characters, got {len(value)}")
        if not re.fullmatch(pattern, value):
            raise InvalidSpec(path, f"must be {what}, got {shown(value)}")
        return value

    return reader


def list_of(item: Reader, *, at_least: int = 0, at_most: int = MAX_ITEMS) -> Reader:
    """A list, as a tuple."""

    def reader(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidSpec(path, f"must be a list, got {shown(value)}")
        if not at_least <= len(value) <= at_most:
            sentence = f"must have {at_least} to {at_most} entries, got {len(value)}"
            raise InvalidSpec(path, sentence)
        return tuple(item(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return reader
