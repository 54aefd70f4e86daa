"""Changes of the fields of a manifest, as `--set FIELD=VALUE` asks for them."""

import copy
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from acceleratedjob.commands.errors import Misuse
from acceleratedjob.errors import InvalidSpec, shown

_STEP = re.compile(r"\.?([^.\[\]=]+)|\[([^\[\]]+)\]")
_EXAMPLE = "such as spec.runtime.seed=1 or spec.template.spec.containers[0].image=train:2"


@dataclass(frozen=True, slots=True)
class Change:
    """A new value of a field.

    Attributes:
        path: the keys and the indices that lead to the field.
        value: the value.
        typed: the field and the value as they were typed; None for a value of another option.
    """

    path: tuple[str | int, ...]
    value: Any
    typed: tuple[str, str] | None = field(default=None, compare=False, repr=False)

    @property
    def as_text(self) -> "Change | None":
        """The change to the value as it was typed, if YAML has read no text from it."""
        if self.typed is None or isinstance(self.value, dict | list | str):
            return None
        return Change(self.path, self.typed[1], self.typed)

    @property
    def quoted(self) -> str:
        """The option that sets the value as it was typed, for a shell."""
        name, value = self.typed or ("", "")
        return f"--set {shlex.quote(f'{name}={json.dumps(value)}')}"


def read_change(text: str) -> Change:
    """Read FIELD=VALUE: keys separated by dots, indices and odd keys in brackets, and YAML.

    >>> read_change("spec.template.spec.containers[0].command=[python, train.py]").path[-3:]
    ('containers', 0, 'command')
    >>> read_change("metadata.labels[example.com/team]=a")
    Change(path=('metadata', 'labels', 'example.com/team'), value='a')

    Raises:
        Misuse: the text is something else.
    """
    path, position = [], 0
    while (found := _STEP.match(text, position)) is not None:
        key, index = found.groups()
        path.append(int(index) if index is not None and index.isdecimal() else key or index)
        position = found.end()
    if not path or text[position : position + 1] != "=":
        raise Misuse(f"must be FIELD=VALUE, {_EXAMPLE}, got {shown(text)}")
    value = text[position + 1 :]
    try:
        return Change(tuple(path), yaml.safe_load(value), (text[:position], value))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Misuse(f"the value must be YAML, got {shown(value)}") from error


def change(document: Any, changes: Iterable[Change]) -> Any:
    """Return a document with changes.

    Raises:
        InvalidSpec: a path leads through something that has no such field.
    """
    changed = copy.deepcopy(document) if changes else document
    for one in changes:
        _set(changed, one)
    return changed


def _set(document: Any, change: Change) -> None:
    inside, at = document, ""
    *steps, last = change.path
    for step in steps:
        inside, at = _enter(inside, step, at)
    _check(inside, last, at)
    if isinstance(inside, list) and last == len(inside):
        inside.append(change.value)
    else:
        inside[last] = change.value


def _enter(inside: Any, step: str | int, at: str) -> tuple[Any, str]:
    """Return the value of a field, which becomes a mapping if it is absent, and its path."""
    _check(inside, step, at)
    if isinstance(inside, dict) and inside.get(step) is None:
        inside[step] = {}
    if isinstance(inside, list) and step == len(inside):
        inside.append({})
    return inside[step], _path(at, step)


def _check(inside: Any, step: str | int, at: str) -> None:
    """Check that a value can have a field."""
    if isinstance(inside, dict) and isinstance(step, str):
        return
    size = len(inside) if isinstance(inside, list) else -1
    if isinstance(step, int) and step <= size:
        return
    found = f"a list of {_entries(size)}" if size >= 0 else shown(inside)
    raise InvalidSpec(_path(at, step), f"cannot be set: {at or 'the manifest'} is {found}")


def _entries(size: int) -> str:
    return "1 entry, [0]" if size == 1 else f"{size} entries"


def _path(at: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{at}[{step}]"
    return f"{at}.{step}" if at else step
