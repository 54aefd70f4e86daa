"""Loads numpy arrays, scalars and dtypes from untrusted files.

torch's weights_only unpickler sets the state of any object whose class is allowed. A state can turn
a numpy dtype into any other, also into the dtype of objects, whose arrays interpret bytes as
pointers. So no class of numpy is allowed. The unpickler creates stand-ins of this module instead,
which accept a fixed set of dtypes and copy bytes. Afterwards `settled` replaces them by numpy's
objects.
"""

import importlib
import math
import re
from functools import cache
from typing import Any, Self

from runtime.checkpoint.trust.constructors import Unreadable
from runtime.collectives.nested import honor_type
from runtime.config.availability import is_present

_CODES = "?bhilqBHILQefdFDMm"  # booleans, numbers and times
_SIZED = re.compile(r"[SU]\d{1,9}")  # bytes and strings, with their length
_UNITS = frozenset(b"Y M W D h m s ms us ns ps fs as generic".split())
_BYTE_ORDERS = frozenset("<>=|")
_FLAGS = frozenset((0, 8))  # none, or NPY_NEEDS_INIT, which strings have
_PLAIN, _TIMED = 3, 4  # versions of a dtype's state
_NAMES = ("numpy._core.multiarray", "numpy.core.multiarray")  # in numpy 2, and before


class Dtype:
    """The stand-in for numpy.dtype: a dtype of numbers, times, bytes or strings.

    Attributes:
        value: the numpy dtype.
    """

    __slots__ = ("value",)
    value: Any

    def __new__(cls, code: Any = None, align: Any = False, copy: Any = False) -> Self:
        """Create a dtype with the arguments that numpy's pickles pass.

        Args:
            code: the kind and the size in bytes, such as `f4`.
            align: must be false.
            copy: ignored.

        Raises:
            Unreadable: the dtype is not allowed.
        """
        del copy
        if not isinstance(code, str) or align or not _is_known(code):
            sentence = f"a dtype must be of numbers, times, bytes or strings, got {code!r:.80}"
            raise Unreadable(sentence)
        self = super().__new__(cls)
        self.value = _numpy().dtype(code)
        return self

    def __setstate__(self, state: Any) -> None:
        """Set the byte order, and the unit of times; all else must agree with the dtype.

        Raises:
            Unreadable: the state would change the dtype into another.
        """
        try:
            self.value = _with_state(self.value, state)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            sentence = f"the state of a dtype must agree with {self.value}, got {state!r:.80}"
            raise Unreadable(sentence) from error


def _with_state(dtype: Any, state: Any) -> Any:
    """Return a dtype with the byte order and the unit of a state.

    Args:
        dtype: the numpy dtype.
        state: (version, byte order, None, None, None, size, alignment, flags, unit of times).

    Raises:
        ValueError: the state has other values.
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
    """The stand-in for numpy.ndarray: copied bytes with the dtype of a `Dtype`.

    Attributes:
        value: the numpy array; absent until the state has been set.
    """

    __slots__ = ("value",)
    value: Any

    def __setstate__(self, state: Any) -> None:
        """Create the array from (version, shape, dtype, whether in Fortran order, bytes).

        Raises:
            Unreadable: numpy would not have written this state.
        """
        try:
            _, shape, dtype, by_columns, content = state
            self.value = _array(shape, dtype, "F" if by_columns else "C", content)
        except (TypeError, ValueError, MemoryError) as error:
            sentence = f"the bytes of an array must fit its shape and dtype: {error}"
            raise Unreadable(sentence) from error


def allowed() -> list[Any]:
    """Return the stand-ins and numpy's names for them, for torch.serialization.safe_globals."""
    if not is_present("numpy"):
        return []
    makers = [(make, f"{module}.{name}") for module in _NAMES for name, make in _MAKERS.items()]
    return [(Dtype, "numpy.dtype"), (Array, "numpy.ndarray"), *makers]


def is_numpys(one: Any) -> bool:
    """Whether an allowed global is an array class, a dtype class or a constructor of numpy.

    Args:
        one: a class or function, or (class or function, name), as torch keeps safe globals.
    """
    if not is_present("numpy"):
        return False
    thing = one[0] if isinstance(one, tuple) else one
    numpy = _numpy()
    if isinstance(thing, type):
        return issubclass(thing, numpy.ndarray | numpy.dtype)
    core = importlib.import_module("numpy._core.multiarray")
    return thing in (core._reconstruct, core.scalar)  # noqa: SLF001  # the names in pickles


def settled(loaded: Any) -> Any:
    """Return a loaded object with numpy's objects in place of the stand-ins.

    Containers are changed in place, except tuples and frozensets, which are replaced.

    Raises:
        Unreadable: containers are nested too deeply, or an array has no state.
    """
    try:
        return _Settling().settled(loaded)
    except RecursionError as error:
        sentence = "containers with arrays are nested too deeply"
        raise Unreadable(sentence) from error


class _Settling:
    """Visits each object of a loaded structure once and replaces stand-ins."""

    def __init__(self) -> None:
        # id -> the object, kept alive so that its id stays unique, and its replacement
        self._seen: dict[int, tuple[Any, Any]] = {}

    def settled(self, one: Any) -> Any:
        if id(one) not in self._seen:
            self._seen[id(one)] = one, one  # in case the object contains itself
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
            self.settled(own)  # a tensor, or an object of a class that the script has allowed
        return one

    def _again(self, one: Any) -> Any:
        """Return an immutable container with replaced items; itself if no item is replaced."""
        items = [*map(self.settled, one)]
        if all(new is old for new, old in zip(items, one, strict=True)):
            return one
        return honor_type(one, items)


def _value(one: Any) -> Any:
    if not hasattr(one, "value"):
        sentence = "an array must have a shape, a dtype and bytes, but its state was never set"
        raise Unreadable(sentence)
    return one.value


@cache
def _classes() -> dict[Any, Any]:
    return {Dtype: _numpy().dtype, Array: _numpy().ndarray}


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    """Stand-in for numpy's function of this name: return an array whose state is set later."""
    if kind is not Array or shape != (0,) or code not in (b"b", "b"):
        sentence = f"an array must be created as numpy's pickles do, got the shape {shape!r:.80}"
        raise Unreadable(sentence)
    return Array()


def _scalar(dtype: Any = None, content: Any = None) -> Any:
    """Stand-in for numpy's function of this name: return a number, time, bytes or string."""
    return _array((), dtype, "C", content)[()]


_MAKERS = {"_reconstruct": _reconstruct, "scalar": _scalar}


def _array(shape: Any, dtype: Any, order: Any, content: Any) -> Any:
    """Return an array with a copy of some bytes.

    Args:
        shape: the size of each dimension.
        dtype: a `Dtype`.
        order: `C` or `F`, the memory order of the bytes.
        content: the bytes.

    Raises:
        Unreadable: numpy would not have written this shape, dtype or bytes.
    """
    is_shape = isinstance(shape, tuple) and all(type(one) is int and one >= 0 for one in shape)
    if not is_shape or type(dtype) is not Dtype or type(content) is not bytes:
        sentence = f"an array must have a shape, a dtype and bytes, got the shape {shape!r:.80}"
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
    """Return the codes of dtypes in numpy's pickles, such as `f4`."""
    return frozenset(_numpy().dtype(code).str[1:4].partition("[")[0] for code in _CODES)


def _timed(dtype: Any, metadata: Any, unit: Any) -> str:
    """Return the code of a dtype of times with its unit, such as `M8[25s]`.

    Args:
        dtype: the numpy dtype, `datetime64` or `timedelta64`.
        metadata: the dtype's metadata, which must be empty.
        unit: (name, number, 1, 1), such as `(b"s", 25, 1, 1)`.

    Raises:
        ValueError: the arguments have other values.
    """
    name, number, *rest = unit
    is_unit = name in _UNITS and type(number) is int and 0 < number < 2**31 and rest == [1, 1]
    if dtype.kind not in "mM" or metadata or not is_unit:
        raise ValueError(unit)
    code = str(dtype.str[1:3])
    return code if name == b"generic" else f"{code}[{number}{name.decode()}]"


def _numpy() -> Any:
    return importlib.import_module("numpy")
