"""Checks the arguments of the constructors that a pickle calls.

Some calls allocate memory out of proportion to the pickle: `bytearray` of a number, `list` of a
range, a new tensor of some shape. They are refused.

Arguments come from the stack that `opcodes` simulates. Strings, numbers and tuples are on it
themselves; a storage is on it as the tuple that identifies it, and other objects as instances of
the classes below.
"""

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_COPIES = {  # constructors that allocate memory per item of their argument
    *("bytearray", "bytes", "set", "frozenset", "list", "tuple", "dict", "deque"),
    *("Counter", "OrderedDict", "Size"),
}
_REBUILDS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_qtensor")
_SHARED = {"torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING"}  # an Enum
_BUFFER = "_io.BytesIO"  # its state is (bytes, position, attributes)
ENCODE = "_codecs.encode"


class Unreadable(pickle.UnpicklingError):
    """A pickle that must not be unpickled."""


class Global(str):
    """Represents a class or function by its dotted name."""

    __slots__ = ()


class Held:
    """Represents a list, dict or set.

    Attributes:
        size: the number of items.
    """

    __slots__ = ("size",)

    def __init__(self, size: int = 0) -> None:
        self.size = size


class Made(Held):
    """Represents the result of a call.

    Attributes:
        size: the number of items in the arguments.
        maker: the function that was called.
    """

    __slots__ = ("maker",)

    def __init__(self, size: int = 0, maker: Any = None) -> None:
        super().__init__(size)
        self.maker = maker


def size_of(given: Any) -> int:
    """Return the number of items or characters of an argument; 1 for other objects."""
    if isinstance(given, Held):
        return given.size
    return len(given) if isinstance(given, str | bytes | bytearray | tuple) else 1


def check(function: str, given: Sequence[Any]) -> int:
    """Check the arguments of a call.

    Args:
        function: the dotted name of the function.
        given: its arguments.

    Returns:
        For a tensor, the number of its elements beyond those in its storage; otherwise 0.

    Raises:
        Unreadable: the call would allocate memory for more than the pickle contains.
    """
    rule = _rule(function)
    return rule(function, given) or 0 if rule else 0


def check_state(built: Any, state: Sequence[Any]) -> None:
    """Check the arguments of an object's `__setstate__`.

    Args:
        built: the object.
        state: the items of its state.

    Raises:
        Unreadable: the object exists outside the pickle, as a class or an Enum member does, or a
            BytesIO has a position beyond its end.
    """
    maker = built if type(built) is Global else getattr(built, "maker", None)
    if type(built) is Global or maker in _SHARED:
        sentence = f"a new state of {maker}, an object that exists outside the pickle"
        raise Unreadable(sentence)
    if maker == _BUFFER and len(state) > 1 and _is_int(state[1]) and state[1] > size_of(state[0]):
        sentence = f"{maker} at position {state[1]}, beyond its end: a write would fill the gap"
        raise Unreadable(sentence)


@cache
def _rule(function: str) -> Callable[[str, Sequence[Any]], int | None] | None:
    """Return the check for the arguments of a function; None if any arguments are allowed.

    Args:
        function: the dotted name of the function.
    """
    module, _, name = function.rpartition(".")
    is_torchs = module.partition(".")[0] == "torch" and not name.startswith("_")
    if function in _OWN:
        return _OWN[function]
    if function.startswith(_REBUILDS):
        return _spread
    if name in _COPIES:
        return _check_copy
    return _check_new if is_torchs and name.endswith(("Tensor", "Storage")) else None


def _check_copy(function: str, given: Sequence[Any]) -> None:
    if any(isinstance(one, Made | int | float) for one in given):
        sentence = f"{function} of a number, or of the result of another call"
        raise Unreadable(sentence)


def _check_new(function: str, given: Sequence[Any]) -> None:
    if given:
        sentence = f"a new {function}, whose values are not in the pickle"
        raise Unreadable(sentence)


def _check_encoded(function: str, given: Sequence[Any]) -> None:
    """Check `encode(text, encoding)`, by which old protocols write bytes."""
    if len(given) != 2 or given[1] not in {"latin1", "latin-1"}:  # noqa: PLR2004  # see above
        sentence = f"{function} with an encoding that pickle does not write"
        raise Unreadable(sentence)


def _check_indirect(function: str, given: Sequence[Any]) -> int:
    """Check a call with the arguments (function, class, the function's arguments, state)."""
    is_known = len(given) > 2 and type(given[0]) is Global  # noqa: PLR2004  # see above
    if not is_known or type(given[2]) is not tuple:
        sentence = f"{function} of a function or of arguments that are not in the pickle itself"
        raise Unreadable(sentence)
    return check(given[0], given[2])


def _spread(_: str, given: Sequence[Any]) -> int:
    """Return the number of a tensor's elements beyond those in its storage.

    Expanded tensors and overlapping windows have such elements; copying the tensor allocates memory
    for all of them. Malformed arguments count as 0, because torch refuses them.
    """
    padded: list[Any] = [*given, None, None, None]
    storage, _, shape = padded[:3]
    if type(shape) is not tuple or type(storage) is not tuple or not all(map(_is_int, shape)):
        return 0
    numbers = storage[4] if len(storage) > 4 and _is_int(storage[4]) else 0  # noqa: PLR2004
    return max(math.prod(shape) - numbers, 0)


def _is_int(one: Any) -> bool:
    return isinstance(one, int)


_OWN: Mapping[str, Callable[[str, Sequence[Any]], int | None]] = {
    ENCODE: _check_encoded,
    "torch._tensor._rebuild_from_type_v2": _check_indirect,
}
