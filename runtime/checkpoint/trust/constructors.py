"""Checks what a pickle gives to the constructors that it calls: objects of its own, no numbers.

`bytearray` of a number, `list` of a range, a new tensor of some shape take memory that a pickle
only names. Arguments are known as far as `opcodes` follows them.
"""

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_COPIES = {  # constructors that take memory for each item of what they are given
    *("bytearray", "bytes", "set", "frozenset", "list", "tuple", "dict", "deque"),
    *("Counter", "OrderedDict", "Size"),
}
_REBUILDS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_qtensor")
_SHARED = {"torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING"}  # an Enum
_BUFFER = "_io.BytesIO"  # its state: bytes, the position in them, attributes
ENCODE = "_codecs.encode"


class Unreadable(pickle.UnpicklingError):
    """A pickle that must not be unpickled."""


class Global(str):
    """On the stack for a class or function: its dotted name."""

    __slots__ = ()


class Held:
    """On the stack for a list, dict or set: how many items it has."""

    __slots__ = ("size",)

    def __init__(self, size: int = 0) -> None:
        self.size = size


class Made(Held):
    """On the stack for what a call makes."""

    __slots__ = ("maker",)

    def __init__(self, size: int = 0, maker: Any = None) -> None:
        super().__init__(size)
        self.maker = maker


# A text, number or tuple is on the stack as it is, a storage as its tuple.


def size_of(given: Any) -> int:
    """Items or characters of what a call is given."""
    if isinstance(given, Held):
        return given.size
    return len(given) if isinstance(given, str | bytes | bytearray | tuple) else 1


def check(function: str, given: Sequence[Any]) -> int:
    """Whether a call makes its object of what is in the pickle, not of a number.

    Returns:
        Numbers that a tensor has beyond those in its storage.
    """
    rule = _rule(function)
    return rule(function, given) or 0 if rule else 0


def check_state(built: Any, state: Sequence[Any]) -> None:
    """Whether an object that gets a state is the pickle's own, not one that all share."""
    maker = built if type(built) is Global else getattr(built, "maker", None)
    if type(built) is Global or maker in _SHARED:
        sentence = f"another state of {maker}, which is not its own"
        raise Unreadable(sentence)
    if maker == _BUFFER and len(state) > 1 and _is_int(state[1]) and state[1] > size_of(state[0]):
        sentence = f"{maker} at position {state[1]}, to which it is filled when it is written to"
        raise Unreadable(sentence)


@cache
def _rule(function: str) -> Callable[[str, Sequence[Any]], int | None] | None:
    """What checks the arguments of a function, by its name; None: there is nothing to check."""
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
        sentence = f"{function} of a number, or of what another call makes"
        raise Unreadable(sentence)


def _check_new(function: str, given: Sequence[Any]) -> None:
    if given:
        sentence = f"a new {function}, whose memory is not in it"
        raise Unreadable(sentence)


def _check_encoded(function: str, given: Sequence[Any]) -> None:
    """(bytes as a text, its encoding): so older protocols write bytes."""
    if len(given) != 2 or given[1] not in {"latin1", "latin-1"}:  # noqa: PLR2004  # as said
        sentence = f"bytes by {function} of a text in another way than pickles write them"
        raise Unreadable(sentence)


def _check_indirect(function: str, given: Sequence[Any]) -> int:
    """(Function, class, the function's arguments, state)."""
    is_known = len(given) > 2 and type(given[0]) is Global  # noqa: PLR2004  # as said
    if not is_known or type(given[2]) is not tuple:
        sentence = f"a call by {function} of what it does not name"
        raise Unreadable(sentence)
    return check(given[0], given[2])


def _spread(_: str, given: Sequence[Any]) -> int:
    """Numbers that a tensor has, and its storage has not: of an expanded one, or of windows.

    To copy it takes memory for all of them. What is not as torch writes it, torch refuses.
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
