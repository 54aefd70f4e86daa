"""Mappings of the same type as another mapping, with different values."""

import contextlib
import copy
from collections import UserDict, defaultdict
from collections.abc import Mapping
from typing import Any


def remade(data: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """Return a mapping of the type of `data` with other items.

    A subclass of dict is created without its constructor, whose arguments are unknown. A mapping of
    another type is created from a dict; if its constructor does not accept a dict, the result is a
    dict, as in torch's `default_collate`.

    Args:
        data: the mapping whose type and attributes the result has.
        items: the keys of `data` with the new values.
    """
    if type(data) is dict:
        return items
    with contextlib.suppress(TypeError):
        return _filled(data, items)
    with contextlib.suppress(TypeError):
        return type(data)(items)  # type: ignore[call-arg]  # most mappings accept a dict
    return items


def _empty(data: Any) -> Any:
    """Return a dict of the type of `data` with the same attributes and no items.

    Raises:
        TypeError: `data` is neither a dict nor a UserDict.
    """
    if isinstance(data, UserDict):
        return copy.copy(data)
    made: Any = dict.__new__(type(data))
    if hasattr(data, "__dict__"):
        vars(made).update(vars(data))
    if isinstance(data, defaultdict):
        made.default_factory = data.default_factory
    return made


def _filled(data: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    made = _empty(data)
    for key, item in items.items():
        made[key] = item
    return made
