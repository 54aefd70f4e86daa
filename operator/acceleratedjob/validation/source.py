"""Reads the bytes of a file into documents with places, for any bytes in a bounded time.

The nodes are composed from PyYAML's events, because its own composer has no limit for depth, and
expands what is repeated by aliases.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from acceleratedjob.api.bounds import MAX_DEPTH, MAX_VALUES
from acceleratedjob.errors import shown
from acceleratedjob.validation import scalars
from acceleratedjob.validation.nodes import Node, Place

MAX_BYTES = 1_500_000  # the API server stores no larger object
START = Place(1, 1)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # its byte order marks; PowerShell writes such files
_MERGE = "<<"
_NO_KEY = "a key must be a text, got a bracket: put a text that begins with { or [ in quotes"
_STRING = "tag:yaml.org,2002:str"
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_PROBLEMS = (  # a part of PyYAML's message, what it means, and what to do
    (r"'\\t' that cannot start", "a tab", "write spaces"),
    (
        "mapping values are not allowed",
        "a key where none may be",
        "give it a line of its own, indented as its neighbours, with a space after each colon",
    ),
    (
        "expected <block end>",
        "a line that is indented otherwise than those of its level",
        "indent all lines of a level alike, and do not mix `- ` and `key: `",
    ),
    ("could not find expected ':'", "a key without a value", "write `key: value`, with a space"),
    ("expected ',' or", "a bracket that is not closed", "close it, or separate entries by commas"),
    ("node content", "a bracket that is not closed", "close it"),
    ("unexpected end of stream", "a quote that is not closed", "close it"),
    (
        "that cannot start any token",
        "a text that begins with a special character",
        "put it in quotes",
    ),
    (
        "undefined alias",
        "a name after * that no & defines",
        "put a text that begins with * in quotes",
    ),
    ("special characters", "a control character", "remove it"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong at a place in a file.

    Attributes:
        place: where.
        field: the path of the field; `manifest` for the whole text.
        message: what must hold, what was found and what to do.
    """

    place: Place
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.place.line}:{self.place.column}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Source:
    """What a file contains.

    Attributes:
        documents: the documents that are not empty.
        faults: what is wrong in the text itself.
    """

    documents: tuple[Node, ...]
    faults: tuple[Fault, ...] = ()


class _Unreadable(Exception):
    """The rest of the text cannot be read."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(place, "manifest", message)


def read(data: bytes) -> Source:
    """Read the bytes of a file."""
    reader = _Reader()
    try:
        documents = tuple(reader.documents(decoded(data)))
    except _Unreadable as error:
        return Source((), (*reader.faults, error.fault))
    return Source(documents, tuple(reader.faults))


def decoded(data: bytes) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        _Unreadable: it is too large, or neither UTF-8 nor UTF-16 with a byte order mark.
    """
    if len(data) > MAX_BYTES:
        raise _Unreadable(START, f"must have at most {MAX_BYTES} bytes, got {len(data)}")
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, errors="ignore")
        found = f"the byte 0x{data[error.start]:02x}"
        sentence = f"must be UTF-8, got {found}: save the file as UTF-8"
        raise _Unreadable(_end_of(before), sentence) from error


def _end_of(text: str) -> Place:
    """Return the place behind a text."""
    lines = re.split(r"\r\n|\r|\n", text)
    return Place(len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been read.

    Attributes:
        place: where it begins.
        anchor: its anchor.
        path: its path, for faults.
        is_list: whether it is a list.
        children: its values by key or index.
        keys: the places of its keys.
        key: the key whose value comes next; None before a key.
        merged: the mappings that a merge key names.
    """

    place: Place
    anchor: str | None
    path: str
    is_list: bool
    children: dict[str | int, Node] = field(default_factory=dict)
    keys: dict[str | int, Place] = field(default_factory=dict)
    key: str | None = None
    merged: list[Node] = field(default_factory=list)

    def next_path(self) -> str:
        """Return the path of the value that comes next."""
        if self.is_list:
            return f"{self.path}[{len(self.children)}]"
        return ".".join(filter(None, (self.path, self.key)))

    def closed(self) -> Node:
        """Return the node; an own key comes before a merged one."""
        merged = {
            key: child for node in reversed(self.merged) for key, child in node.children.items()
        }
        children: Mapping[str | int, Node] = merged | self.children
        value: Any = {key: child.value for key, child in children.items()}
        value = list(value.values()) if self.is_list else value
        size = 1 + sum(child.size for child in children.values())
        return Node(value, self.place, children=children, keys=self.keys, size=size)


class _Reader:
    """Composes the documents of one text."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._anchors: dict[str, Node | None] = {}  # None: its end has not been read
        self._open: list[_Open] = []

    def documents(self, text: str) -> Iterator[Node]:
        """Yield the documents that are not empty.

        Raises:
            _Unreadable: the text is not YAML, or exceeds a limit.
        """
        try:
            for event in yaml.parse(text, yaml.SafeLoader):
                found = self._node(event)
                if found is not None and found.value is not None:
                    yield found
        except yaml.reader.ReaderError as error:
            place = _end_of(text[: error.position])
            raise _Unreadable(place, _sentence(error.reason)) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = Place(mark.line + 1, mark.column + 1) if mark else START
            raise _Unreadable(place, _problem(error)) from error

    def _node(self, event: yaml.Event) -> Node | None:
        """Take an event, and return the document that it ends."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}
            if event.version or event.tags:
                raise _Unreadable(_place(event), "must have no line that begins with %: remove it")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self._open.pop()
            return self._add(ended.closed(), ended.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_depth(event)
            return self._add(self._scalar(event), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            return self._add(self._alias(event), None)
        return None

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        place = self._check_depth(event)
        self._check_tag(event, _COLLECTIONS)
        if self._wants_key():
            raise _Unreadable(place, _NO_KEY)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        path = self._open[-1].next_path() if self._open else ""
        is_list = isinstance(event, yaml.SequenceStartEvent)
        self._open.append(_Open(place, event.anchor, path, is_list))

    def _wants_key(self) -> bool:
        return bool(self._open) and not self._open[-1].is_list and self._open[-1].key is None

    def _check_depth(self, event: yaml.Event) -> Place:
        place = _place(event)
        if len(self._open) > MAX_DEPTH:
            sentence = f"must be nested at most {MAX_DEPTH} levels deep, and is nested deeper"
            raise _Unreadable(place, sentence)
        return place

    def _check_tag(self, event: Any, allowed: set[str]) -> None:
        if event.tag not in (None, "!", *allowed):
            sentence = f"must have no tag, got {shown(event.tag)}: remove it"
            self.faults.append(Fault(_place(event), "manifest", sentence))

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        self._check_tag(event, {_STRING})
        is_plain = event.style is None and event.tag is None
        value = scalars.read(event.value) if is_plain else _paired(event.value)
        if isinstance(value, float) and value - value != 0:
            sentence = f"must be a number that JSON has, got {event.value}"
            raise _Unreadable(_place(event), sentence)
        return Node(value, _place(event), text=event.value if is_plain else None)

    def _alias(self, event: yaml.AliasEvent) -> Node:
        self._check_depth(event)
        place, name = _place(event), event.anchor
        if name not in self._anchors:
            raise _Unreadable(place, _sentence(f"undefined alias *{name}"))
        node = self._anchors[name]
        if node is None:
            raise _Unreadable(place, f"an anchor must not contain itself, got *{name}")
        return node

    def _add(self, node: Node, anchor: str | None) -> Node | None:
        """Add a node to what is open; a document itself is returned."""
        self._check_size(node)
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            return node
        owner = self._open[-1]
        if owner.is_list:
            owner.children[len(owner.children)] = node
        elif owner.key is None:
            self._add_key(owner, node)
        else:
            self._add_value(owner, node)
        return None

    def _check_size(self, node: Node) -> None:
        if node.size > MAX_VALUES:
            sentence = f"must have at most {MAX_VALUES} values, and has more"
            raise _Unreadable(node.place, sentence)

    def _add_key(self, owner: _Open, node: Node) -> None:
        key = _key(node)
        if key in owner.keys and key != _MERGE:
            path = ".".join(filter(None, (owner.path, key)))
            first = owner.keys[key].line
            sentence = f"must be given once, but line {first} has it, too: remove one of them"
            self.faults.append(Fault(node.place, path, sentence))
        owner.key = key
        owner.keys[key] = node.place

    def _add_value(self, owner: _Open, node: Node) -> None:
        key, owner.key = owner.key, None
        if key != _MERGE:
            owner.children[str(key)] = node
            return
        found = list(node.children.values()) if isinstance(node.value, list) else [node]
        if not all(isinstance(one.value, dict) for one in found):
            raise _Unreadable(node.place, "<< must name a mapping, or a list of them")
        owner.merged += found


def _paired(text: str) -> str:
    r"""Return a text whose surrogate pairs, as JSON writes them, are characters.

    >>> _paired("\ud83d\ude00")
    '😀'
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _key(node: Node) -> str:
    """Return a key as JSON has it: `on` without quotes is the key `true`, and 1 the key `1`."""
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, int):
        return str(node.value)
    raise _Unreadable(
        node.place, f"a key must be a text, got {shown(node.value)}: put it in quotes"
    )


def _place(event: yaml.Event) -> Place:
    mark: Any = event.start_mark  # the parser sets it
    return Place(mark.line + 1, mark.column + 1)


def _problem(error: yaml.MarkedYAMLError) -> str:
    return _sentence(" ".join(filter(None, (error.problem, error.context))))


def _sentence(problem: str) -> str:
    for part, found, advice in _PROBLEMS:
        if re.search(part, problem):
            return f"must be YAML, got {found}: {advice}"
    return f"must be YAML, got an error: {problem}"
