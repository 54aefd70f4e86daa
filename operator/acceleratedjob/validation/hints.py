"""Says what to do about a fault: put a text in quotes, or a field where it belongs.

A repair is only advised if it was tried, and the fault is gone.
"""

import dataclasses
import functools
import json
import re
import shlex
import typing
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from acceleratedjob.api.schema import NO_FIELD, key
from acceleratedjob.api.spec import JobSpec
from acceleratedjob.errors import InvalidSpec
from acceleratedjob.validation import scalars
from acceleratedjob.validation.nodes import Found, Node, replaced
from acceleratedjob.validation.pod_types import table

MAX_TRIALS = 20  # of repairs, for one document
MAX_SIZE = 2_000  # values of a document whose repairs are tried
MAX_TEXT = 200  # characters of a text that is repaired
_CONTAINER = "spec.template.spec.containers[]"
_LIMITS = f"{_CONTAINER}.resources.limits"  # of devices, such as nvidia.com/gpu
_DURATION = re.compile(r"([0-9]{1,9})\s*(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_Faults = Callable[[Any], list[InvalidSpec]]


def advised(document: Node, faults: list[InvalidSpec], find: _Faults) -> Iterator[InvalidSpec]:
    """Yield the faults, with what to do about them as far as it is known.

    Args:
        document: the document.
        faults: its faults.
        find: finds the faults of a changed document.
    """
    trials = iter(range(MAX_TRIALS if document.size <= MAX_SIZE else 0))
    for fault in faults:
        found = document.find(fault.field)
        if NO_FIELD in fault.message:
            yield _misplaced(fault, found)
        elif "did you mean" in fault.message or not found.is_whole:
            yield fault
        else:
            advice = _advice(document, found, partial(_is_wrong, find, fault.field), trials)
            yield InvalidSpec(fault.field, f"{fault.message}{advice}")


def _advice(
    document: Node, found: Found, is_wrong: Callable[[Any], bool], trials: Iterator[int]
) -> str:
    """Return the advice of the first repair that helps; empty if none does."""
    for (new, words), _ in zip(_repairs(found), trials, strict=False):
        if not is_wrong(replaced(document.value, found.keys, new)):
            return words
    return ""


def _is_wrong(find: _Faults, field: str, value: Any) -> bool:
    return any(fault.field in (field, f"{field}[0]") for fault in find(value))


def _repairs(found: Found) -> Iterator[tuple[Any, str]]:
    """Yield values that may be meant, each with the advice to write it."""
    value, text = found.node.value, found.node.text
    if isinstance(value, dict):
        yield [value], ": write a list, each entry with `- ` before its first key"
        return
    if isinstance(value, list) or len(str(value)) > MAX_TEXT:
        return
    if text is not None and not isinstance(value, str):
        read = "" if text == json.dumps(value) else f", as YAML reads {text} without quotes"
        yield text, f'{read}: write "{text}" in quotes'
    if isinstance(value, str) and value:
        plain = scalars.read(value)
        yield plain, f": write {value} without quotes"
        yield from _durations(value)
        yield from _lists(value)
    yield [value], f": write a list, [{value}]"


def _durations(text: str) -> Iterator[tuple[Any, str]]:
    """Yield a duration in seconds."""
    found = _DURATION.fullmatch(text)
    if found:
        seconds = int(found[1]) * _SECONDS[found[2]]
        yield seconds, f": write {seconds}, the seconds of {text}"


def _lists(text: str) -> Iterator[tuple[Any, str]]:
    """Yield a command line as a list of its words."""
    try:
        words = shlex.split(text)
    except ValueError:  # quotes that are not closed
        return
    if len(words) > 1:
        yield words, f": write a list, [{', '.join(words)}]"


def _misplaced(fault: InvalidSpec, found: Found) -> InvalidSpec:
    """Say where a field belongs that is known elsewhere, unless a similar name is suggested."""
    name = str(found.keys[-1]) if found.keys else ""
    places = [_LIMITS] if "/" in name else homes().get(name)
    if places is None or "did you mean" in fault.message:
        return fault
    sentence, _, _ = fault.message.partition(", which has")
    return InvalidSpec(fault.field, f"{sentence}: {name} belongs in {' or '.join(places)}")


@functools.cache
def homes() -> dict[str, list[str]]:
    """Return the places of each field of a job; of pods and containers, too.

    >>> homes()["maxRestarts"], homes()["image"]
    (['spec.failurePolicy'], ['spec.template.spec.containers[]'])
    """
    found: dict[str, list[str]] = {}
    pods = ((_CONTAINER, "Container"), ("spec.template.spec", "PodSpec"))
    known = [*_fields(JobSpec.__mro__[1], "spec")]
    known += [(path, name) for path, kind in pods for name in table()["types"][kind]]
    known += [("spec.template.metadata", "labels"), ("spec.template.metadata", "annotations")]
    for path, name in known:
        if path not in found.setdefault(name, []):
            found[name].append(path)
    return found


def _fields(cls: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a section and of the sections in it, each after its path."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = key(field.name)
        yield path, name
        for inner in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(inner):
                is_many = typing.get_origin(hints[field.name]) is tuple
                yield from _fields(inner, f"{path}.{name}{'[]' * is_many}")
