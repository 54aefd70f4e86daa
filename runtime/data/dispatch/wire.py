"""Encode the structure of a batch: plain values and tensors as JSON, anything else as a pickle.

Decoding JSON is safe, whoever the sender is. Loading a pickle can run the sender's code, so it is
only used if a batch contains objects of other types, for example of a script's or numpy's classes.
"""

import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from runtime.collectives.nested import TensorInformation, is_namedtuple
from runtime.config.dotted_names import recursive_getattr

_JSON, _PICKLE = b"J", b"P"  # the first byte
_DTYPES = {str(one): one for one in vars(torch).values() if isinstance(one, torch.dtype)}


def encoded(structure: Any) -> bytes:
    """Return a structure, which has a TensorInformation for each tensor, as bytes."""
    try:
        return _JSON + json.dumps(_plain(structure)).encode()
    except (TypeError, ValueError):  # another type, or an int with too many digits
        return _PICKLE + pickle.dumps(structure)


def decoded(content: bytes) -> Any:
    """Return the structure that `encoded` has encoded.

    Raises:
        ValueError: the bytes are not a structure.
    """
    if content[:1] == _PICKLE:
        return pickle.loads(content[1:])  # noqa: S301  # see the module's docstring
    return _value(json.loads(content[1:]))


def _plain(one: Any) -> Any:
    """Return a value for JSON: a plain value itself, or a list that begins with a type's name.

    Raises:
        TypeError: the value contains objects of other types.
    """
    kind = type(one)
    if one is None or kind in {bool, int, float, str}:
        return one
    if is_namedtuple(one):
        name = kind.__module__, kind.__qualname__
        if _named(*name) is kind:
            return ["namedtuple", *name, *map(_plain, one)]
    if kind not in _PLAIN:
        sentence = f"{kind} is not a plain value"
        raise TypeError(sentence)
    return [kind.__name__, *_PLAIN[kind](one)]


def _pairs(one: Mapping[Any, Any]) -> list[Any]:
    return [_plain(part) for pair in one.items() for part in pair]


def _each(one: Any) -> list[Any]:
    return [*map(_plain, one)]


_PLAIN: Mapping[type, Callable[[Any], list[Any]]] = {
    list: _each,
    tuple: _each,
    dict: _pairs,
    OrderedDict: _pairs,
    bytes: lambda one: [one.decode("latin1")],
    complex: lambda one: [one.real, one.imag],
    torch.Size: lambda one: [*one],
    TensorInformation: lambda one: [str(one.dtype), *one.shape],
}


def _value(one: Any) -> Any:
    """The reverse of `_plain`."""
    if not isinstance(one, list):
        return one
    kind, *parts = one
    if kind not in _VALUES:
        sentence = f"a batch must contain values of known types, got {kind!r:.80}"
        raise ValueError(sentence)
    return _VALUES[kind](parts)


def _mapping(parts: list[Any]) -> dict[Any, Any]:
    values = [*map(_value, parts)]
    return dict(zip(values[::2], values[1::2], strict=True))


_VALUES: Mapping[str, Callable[[list[Any]], Any]] = {
    "list": lambda parts: [*map(_value, parts)],
    "tuple": lambda parts: tuple(map(_value, parts)),
    "dict": _mapping,
    "OrderedDict": lambda parts: OrderedDict(_mapping(parts)),
    "bytes": lambda parts: parts[0].encode("latin1"),
    "complex": lambda parts: complex(*parts),
    "Size": torch.Size,
    "TensorInformation": lambda parts: TensorInformation(torch.Size(parts[1:]), _DTYPES[parts[0]]),
    "namedtuple": lambda parts: _namedtuple(*parts[:2])(*map(_value, parts[2:])),
}


def _namedtuple(module: str, name: str) -> Any:
    """Return a namedtuple class by its name; no module is imported for a message.

    Raises:
        ValueError: the class is not a namedtuple, or this process has not imported its module.
    """
    kind = _named(module, name)
    if not (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")):
        sentence = (
            f"a batch contains a namedtuple {module}.{name}, but this process has no such class: "
            "import it in the script on all ranks"
        )
        raise ValueError(sentence)
    return kind


def _named(module: str, name: str) -> Any:
    """Return an attribute of an imported module by its dotted name; None if there is none."""
    try:
        return recursive_getattr(sys.modules[module], name)
    except (KeyError, AttributeError):
        return None
