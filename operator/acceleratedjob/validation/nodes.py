"""A document of YAML whose values know their places."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_BEGINS = ("", ".", "[")  # what a step of a path may be followed by


class Place(NamedTuple):
    """A place in a text, counted from 1 as editors do.

    Attributes:
        line: the line.
        column: the character in the line.
    """

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document.

    Attributes:
        value: the value as JSON has it.
        place: where it begins.
        text: the text of a scalar without quotes; None for every other value.
        children: the values in it, by key or index.
        keys: where the keys of a mapping begin.
        size: the number of values in it with itself, repeated ones counted again.
    """

    value: Any
    place: Place
    text: str | None = None
    children: Mapping[str | int, "Node"] = field(default_factory=dict)
    keys: Mapping[str | int, Place] = field(default_factory=dict)
    size: int = 1

    def find(self, path: str) -> "Found":
        """Return what a path such as `spec.template.spec.containers[0].name` leads to.

        A path that leads nowhere gives the last value on the way.
        """
        return _find(self, path, Found(self, (), self.place, is_whole=not path))


@dataclass(frozen=True, slots=True)
class Found:
    """The value at a path, or the last one on the way to it.

    Attributes:
        node: the value.
        keys: the keys and indices that lead to it.
        place: where its key begins, or the value itself if it has none.
        is_whole: whether the path leads to it; otherwise the path leads to a value that is missing.
    """

    node: Node
    keys: tuple[str | int, ...]
    place: Place
    is_whole: bool


def _find(node: Node, path: str, found: Found) -> Found:
    """Follow a path; of keys that all fit, such as `a` and `a.b`, the one that leads furthest."""
    best = found
    for key, rest in _steps(node, path):
        child = node.children[key]
        place = node.keys.get(key, child.place)
        here = Found(child, (*found.keys, key), place, is_whole=not rest)
        further = _find(child, rest, here)
        if (further.is_whole, len(further.keys)) > (best.is_whole, len(best.keys)):
            best = further
    return best


def _steps(node: Node, path: str) -> Iterator[tuple[str | int, str]]:
    """Yield the keys with which a path may begin, each with the rest of the path.

    A step is `.key`, `[key]` or `[index]`, and `key` at the root. Keys may contain dots.
    """
    for end in range(1, len(path) + 1):
        step, rest = path[:end], path[end:]
        if rest[:1] not in _BEGINS:
            continue
        is_in_brackets = step[0] == "[" and step[-1] == "]"
        key: str | int = step[1:-1] if is_in_brackets else step.removeprefix(".")
        if is_in_brackets and isinstance(node.value, list) and str(key).isdecimal():
            key = int(key)
        if key in node.children:
            yield key, rest


def replaced(value: Any, keys: tuple[str | int, ...], new: Any) -> Any:
    """Return a value with another one at a place in it; the value itself is unchanged."""
    if not keys:
        return new
    first, *rest = keys
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[first] = replaced(value[first], tuple(rest), new)  # type: ignore[index]  # a key or an index
    return copied
