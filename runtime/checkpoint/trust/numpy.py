"""Numpy's arrays, numbers and dtypes out of a file that nobody vouches for.

torch's weights_only unpickler sets the state of any object whose class is allowed, and a state
turns numpy's dtype into any other: also into one of objects, whose array takes bytes for pointers.
So nothing of numpy's own is allowed. What a file names gets a stand-in of this module, which knows
a fixed set of dtypes and copies bytes; `settled` puts numpy's objects in their places afterwards.
"""

import importlib
import math
import re
from functools import cache
from typing import Any, Self

from runtime.checkpoint.trust.constructors import Unreadable
from runtime.collectives.nested import honor_type
from runtime.config.availability import is_present

_CODES = "?bhilqBHILQefdFDMm"  # numbers and times; texts and bytes have lengths of their own
_SIZED = re.compile(r"[SU]\d{1,9}")
_UNITS = frozenset(b"Y M W D h m s ms us ns ps fs as generic".split())
_BYTE_ORDERS = frozenset("<>=|")
_FLAGS = frozenset((0, 8))  # nothing; memory is to be zeroed first, as for texts
_PLAIN, _TIMED = 3, 4  # versions of a dtype's state
_NAMES = ("numpy._core.multiarray", "numpy.core.multiarray")  # of numpy 2, and of older ones


class Dtype:
    """In the place of numpy.dtype: one of a number, a time, bytes or a text."""

    __slots__ = ("value",)
    value: Any  # numpy's dtype

    def __new__(cls, code: Any = None, align: Any = False, copy: Any = False) -> Self:
        """As a pickle calls it; `copy` means nothing."""
        del copy
        if not isinstance(code, str) or align or not _is_known(code):
            sentence = f"a dtype must be of numbers, times, bytes or texts, and is {code!r:.80}"
            raise Unreadable(sentence)
        self = super().__new__(cls)
        self.value = _numpy().dtype(code)
        return self

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, and the unit of times; all else must be what the code says."""
        try:
            self.value = _with_state(self.value, state)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            sentence = f"the state of a dtype {self.value} must be its own, and is {state!r:.80}"
            raise Unreadable(sentence) from error


def _with_state(dtype: Any, state: Any) -> Any:
    """A dtype with the byte order and unit that a state has.

    Raises:
        ValueError: there is more in it.
    """
    version, order, *none, size, alignment, flags, timed = (*state, None)[:9]
    is_plain = none == [None, None, None] and len(state) == _LENGTHS[version]
    is_sized = size in {-1, dtype.itemsize} and type(alignment) is int
    if not is_plain or not is_sized or order not in _BYTE_ORDERS or flags not in _FLAGS:
        raise ValueError(state)
    code = dtype.str[1:] if version == _PLAIN else _timed(dtype, *timed)
    return _numpy().dtype(f"{order}{code}")


_LENGTHS = {_PLAIN: 8, _TIMED: 9}


class Array:
    """In the place of numpy.ndarray: bytes, copied, and read as what a `Dtype` says."""

    __slots__ = ("value",)
    value: Any  # numpy's array, once its state was set

    def __setstate__(self, state: Any) -> None:
        """Take what numpy's array has: version, shape, dtype, whether by columns, bytes."""
        try:
            _, shape, dtype, by_columns, content = state
            self.value = _array(shape, dtype, "F" if by_columns else "C", content)
        except (TypeError, ValueError, MemoryError) as error:
            sentence = f"an array must have as many bytes as its shape and dtype say: {error}"
            raise Unreadable(sentence) from error


def allowed() -> list[Any]:
    """The stand-ins, for torch.serialization.safe_globals."""
    if not is_present("numpy"):
        return []
    makers = [(make, f"{module}.{name}") for module in _NAMES for name, make in _MAKERS.items()]
    return [(Dtype, "numpy.dtype"), (Array, "numpy.ndarray"), *makers]


def is_numpys(one: Any) -> bool:
    """Whether what somebody has allowed is numpy's own, of which a pickle could set the state."""
    if not is_present("numpy"):
        return False
    thing = one[0] if isinstance(one, tuple) else one
    numpy = _numpy()
    if isinstance(thing, type):
        return issubclass(thing, numpy.ndarray | numpy.dtype)
    core = importlib.import_module("numpy._core.multiarray")
    return thing in (core._reconstruct, core.scalar)  # noqa: SLF001  # as pickles name them


def settled(loaded: Any) -> Any:
    """What was loaded, with numpy's own objects in the places of stand-ins.

    Raises:
        Unreadable: it is nested too deeply.
    """
    try:
        return _Settling().settled(loaded)
    except RecursionError as error:
        sentence = "arrays must not be nested as deeply as these are"
        raise Unreadable(sentence) from error


class _Settling:
    """Goes through what was loaded, each object once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Any]] = {}  # by id: an object, which stays, and its heir

    def settled(self, one: Any) -> Any:
        if id(one) not in self._seen:
            self._seen[id(one)] = one, one  # meanwhile, where it is in itself
            self._seen[id(one)] = one, self._heir(one)
        return self._seen[id(one)][1]

    def _heir(self, one: Any) -> Any:
        if isinstance(one, Dtype | Array):
            return _value(one)
        if isinstance(one, type):
            return _classes().get(one, one)
        if isinstance(one, tuple | frozenset):
            return self._again(one)
        if isinstance(one, dict):
            items = [(self.settled(key), self.settled(value)) for key, value in one.items()]
            one.clear()
            one.update(items)
        elif isinstance(one, list):
            one[:] = map(self.settled, one)
        elif isinstance(one, set):
            members = [*map(self.settled, one)]
            one.clear()
            one.update(members)
        if isinstance(own := getattr(one, "__dict__", None), dict):
            self.settled(own)  # of a class that the script has allowed, or a tensor
        return one

    def _again(self, one: Any) -> Any:
        """What cannot be changed is made again, if it must be."""
        items = [*map(self.settled, one)]
        if all(new is old for new, old in zip(items, one, strict=True)):
            return one
        return honor_type(one, items)


def _value(one: Any) -> Any:
    if not hasattr(one, "value"):
        sentence = "an array must have a shape, a dtype and bytes, and has none"
        raise Unreadable(sentence)
    return one.value


@cache
def _classes() -> dict[Any, Any]:
    return {Dtype: _numpy().dtype, Array: _numpy().ndarray}


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    """As numpy's: an array whose state comes then."""
    if kind is not Array or shape != (0,) or code not in (b"b", "b"):
        sentence = f"an array must be begun as numpy begins it, and is by {shape!r:.80}"
        raise Unreadable(sentence)
    return Array()


def _scalar(dtype: Any = None, content: Any = None) -> Any:
    """As numpy's: a number, time, bytes or text of its own kinds."""
    return _array((), dtype, "C", content)[()]


_MAKERS = {"_reconstruct": _reconstruct, "scalar": _scalar}


def _array(shape: Any, dtype: Any, order: Any, content: Any) -> Any:
    """An array of bytes that are copied.

    Raises:
        Unreadable: a shape, dtype or bytes that numpy would not have written.
    """
    is_shape = isinstance(shape, tuple) and all(type(one) is int and one >= 0 for one in shape)
    if not is_shape or type(dtype) is not Dtype or type(content) is not bytes:
        sentence = f"an array must be of numbers in bytes, and has the shape {shape!r:.80}"
        raise Unreadable(sentence)
    count, numpy = math.prod(shape), _numpy()
    if len(content) != count * dtype.value.itemsize or (count and not content and shape):
        sentence = f"an array of {shape!r:.80} {dtype.value} must not have {len(content)} bytes"
        raise Unreadable(sentence)
    if not content:
        return numpy.zeros(shape, dtype.value)
    flat = numpy.frombuffer(content, dtype.value)
    return flat.reshape(shape, order=order).copy(order)


def _is_known(code: str) -> bool:
    return code in _known() or _SIZED.fullmatch(code) is not None


@cache
def _known() -> frozenset[str]:
    """What numpy's pickles call the dtypes, such as `f4`."""
    return frozenset(_numpy().dtype(code).str[1:4].partition("[")[0] for code in _CODES)


def _timed(dtype: Any, metadata: Any, unit: Any) -> str:
    """The code of times with their unit, as `M8[25s]`.

    Raises:
        ValueError: it is none.
    """
    name, number, *rest = unit
    is_unit = name in _UNITS and type(number) is int and 0 < number < 2**31 and rest == [1, 1]
    if dtype.kind not in "mM" or metadata or not is_unit:
        raise ValueError(unit)
    code = str(dtype.str[1:3])
    return code if name == b"generic" else f"{code}[{number}{name.decode()}]"


def _numpy() -> Any:
    return importlib.import_module("numpy")
