"""Names of objects for people, and objects by their dotted names."""

import operator
from typing import Any


def get_pretty_name(obj: Any) -> str:
    """The name of a function or class; of anything else, that of its class.

    >>> get_pretty_name(dict.fromkeys), get_pretty_name(3)
    ('dict.fromkeys', 'int')
    """
    named = obj if hasattr(obj, "__qualname__") or hasattr(obj, "__name__") else type(obj)
    return str(getattr(named, "__qualname__", None) or named.__name__)


def recursive_getattr(obj: Any, attr: str) -> Any:
    """An attribute of an attribute, by a dotted name.

    >>> recursive_getattr(3, "real.imag")
    0
    """
    return operator.attrgetter(attr)(obj)
