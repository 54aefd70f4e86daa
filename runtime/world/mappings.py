"""Mappings of the same kind as another one, with other values."""

import contextlib
import copy
from collections import UserDict, defaultdict
from collections.abc import Mapping
from typing import Any


def remade(data: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    """A mapping of `data`'s kind with the same keys and other values.

    A dict of any kind is filled without a call of its constructor, which may take anything. Another
    mapping whose constructor takes no dict becomes a dict, as in torch's `default_collate`.
    """
    if type(data) is dict:
        return items
    with contextlib.suppress(TypeError):
        return _filled(data, items)
    with contextlib.suppress(TypeError):
        return type(data)(items)  # type: ignore[call-arg]  # as most mappings take it
    return items


def _empty(data: Any) -> Any:
    """A dict of a kind with the same attributes and nothing in it.

    Raises:
        TypeError: it is a mapping of another kind.
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
