"""What the rules of pods and those of containers share: items of lists, and sources."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from acceleratedjob.api.names import View
from acceleratedjob.errors import InvalidSpec

WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{WORD}")  # of a label, a resource
Named = Iterable[tuple[str, Any]]  # paths and what is there


def items(owner: View, name: str, path: str) -> Named:
    """Yield the items of a list, which may be absent, each after its path."""
    for index, item in enumerate(owner.get(name) or ()):
        yield f"{path}.{name}[{index}]", item


def one_source(
    owner: View,
    path: str,
    *,
    but: tuple[str, ...] = (),
    is_needed: bool = False,
    what: str = "source",
) -> Iterator[InvalidSpec]:
    """Check that one field at most is set.

    Args:
        owner: what has the fields.
        path: its path.
        but: fields that are none of them.
        is_needed: whether one must be set.
        what: what such a field is.
    """
    found = [name for name, value in owner.items() if value is not None and name not in but]
    if len(found) > 1:
        sentence = f"must have one {what}, got {' and '.join(found)}: remove all but one"
        yield InvalidSpec(path, sentence)
    if is_needed and not found:
        yield InvalidSpec(path, f"must have one {what}, got none")
