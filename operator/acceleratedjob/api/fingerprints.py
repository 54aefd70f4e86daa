"""A hash of the fields that pods are created from; equal for all notations of the same value."""

import hashlib
import json
from typing import Any

from acceleratedjob.api import quantity

_AMOUNTS = ("limits", "requests", "overhead")  # keys of mappings of resources to quantities
_AMOUNT = ("sizeLimit", "size_limit")


def fingerprint(*parts: object) -> str:
    """Return the hash of parts of a spec."""
    text = json.dumps(_plain(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any, key: str = "") -> Any:
    """Return a value with normalized quantities, and without nulls.

    >>> _plain({"limits": {"cpu": "1000m", "memory": None}}) == _plain({"limits": {"cpu": 1}})
    True
    """
    if isinstance(value, dict):
        is_amounts = key in _AMOUNTS
        return {
            name: _amount(entry) if is_amounts or name in _AMOUNT else _plain(entry, name)
            for name, entry in value.items()
            if entry is not None
        }
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _amount(value: Any) -> Any:
    """Return a normalized quantity; an invalid value, which the API server rejects, is kept."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _plain(value)
    try:
        return str(quantity.parse(value).normalize())
    except ValueError:
        return value
