"""Readable names of objects, and attributes by dotted names."""

import operator
from typing import Any


def get_pretty_name(obj: Any) -> str:
    """Return the name of a function or class; for any other object, the name of its class.

    >>> get_pretty_name(dict.fromkeys), get_pretty_name(3)
    ('dict.fromkeys', 'int')

    Args:
        obj: the object.
    """
    named = obj if hasattr(obj, "__qualname__") or hasattr(obj, "__name__") else type(obj)
    return str(getattr(named, "__qualname__", None) or named.__name__)


def recursive_getattr(obj: Any, attr: str) -> Any:
    """Return a nested attribute.

    >>> recursive_getattr(3, "real.imag")
    0

    Args:
        obj: the object.
        attr: the names of the attributes, separated by dots.
    """
    return operator.attrgetter(attr)(obj)
