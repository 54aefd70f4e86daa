"""Decodes JSON from an API server, even if it is too deep or too long for Python's decoder.

Values nested deeper than MAX_DEPTH are replaced by null. Only a job can be nested so deeply, and
jobs are rejected at a smaller depth (`api.bounds`), so no value that is used is lost. A large list
is decoded item by item, and the event loop runs between two items.
"""

import asyncio
import contextlib
import gc
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 200  # far above our own limits, and far below that of Python's decoder
_AT_ONCE = 2**18  # bytes; any JSON of this size is decoded within about 50 ms
_ITEMS = "items"  # the key of a list's entries
_STRING_OR_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]++|[\]}]++', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*+")
_DECODER = json.JSONDecoder()

Take = Callable[[Any], Any]


async def decode(text: bytes, take: Take | None = None) -> Any:
    """Decode a JSON text.

    Args:
        text: UTF-8, of any length and depth.
        take: called for each item of a list of objects; its result replaces the item.

    Raises:
        ValueError: the text is not JSON.
    """
    try:
        return await _decode(text.decode(), take)
    except RecursionError:
        text = await asyncio.to_thread(cut, text)
        return await _decode(text.decode(), take)


def cut(text: bytes) -> bytes:
    """Return a JSON text in which null replaces values that are nested deeper than MAX_DEPTH.

    >>> cut(b"[" * 201 + b"1" + b"]" * 201) == b"[" * 200 + b"null" + b"]" * 200
    True
    """
    kept, depth, since = [], 0, 0
    for found in _STRING_OR_BRACKETS.finditer(text):
        size = found.end() - found.start()
        if text[found.start()] in b"[{":
            if depth <= MAX_DEPTH < depth + size:
                kept += [text[since : found.start() + MAX_DEPTH - depth], b"null"]
            depth += size
        elif text[found.start()] in b"]}":
            if depth - size <= MAX_DEPTH < depth:
                since = found.start() + depth - MAX_DEPTH
            depth -= size
    return b"".join([*kept, text[since:]])


async def _decode(text: str, take: Take | None) -> Any:
    """Decode as `decode` does.

    Raises:
        RecursionError: the text is nested deeper than Python's decoder allows.
    """
    if take is None and len(text) <= _AT_ONCE:
        return _loads(text)
    cursor, value = _Cursor(text), {}
    if not cursor.passes("{"):
        return _loads(text)
    while not cursor.passes("}"):
        key = cursor.value()
        cursor.expect(":")
        if key == _ITEMS and cursor.passes("["):
            value[key] = await _entries(cursor, take)
        else:
            value[key] = cursor.value()
        if not cursor.sees("}"):
            cursor.expect(",")
    cursor.expect("")
    return value


def _loads(text: str) -> Any:
    with _uncollected():
        return json.loads(text)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Disable the garbage collector inside the block, which must create no reference cycles.

    While half a million lists are created, the collector would visit all objects repeatedly.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _entries(cursor: "_Cursor", take: Take | None) -> list[Any]:
    """Read the items of a list, after its opening bracket."""
    entries: list[Any] = []
    while not cursor.passes("]"):
        entry = cursor.value()
        entries.append(entry if take is None else take(entry))
        await asyncio.sleep(0)
        if not cursor.sees("]"):
            cursor.expect(",")
    return entries


@dataclass(slots=True)
class _Cursor:
    """A position in a JSON text."""

    text: str
    at: int = 0

    def value(self) -> Any:
        """Read a value."""
        with _uncollected():
            value, self.at = _DECODER.raw_decode(self.text, self._next())
        return value

    def sees(self, character: str) -> bool:
        """Whether a character is next; the empty string is next at the end of the text."""
        at = self._next()
        return self.text[at : at + 1] == character

    def passes(self, character: str) -> bool:
        """Whether a character is next; if it is, skip it."""
        if not self.sees(character):
            return False
        self.at = self._next() + len(character)
        return True

    def expect(self, character: str) -> None:
        """Skip a character.

        Raises:
            ValueError: another character is next.
        """
        if not self.passes(character):
            raise json.JSONDecodeError(f"Expecting {character!r}", self.text, self._next())

    def _next(self) -> int:
        found = _SPACE.match(self.text, self.at)
        return found.end() if found else self.at
