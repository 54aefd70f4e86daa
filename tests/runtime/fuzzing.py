"""Loads forged files one after the other, in a process of its own: what crashes is seen by its end.

    python -m tests.runtime.fuzzing table|drawn

Whatever is in a file, to load it is a clean error, or gives values that can be used.
"""

import faulthandler
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._weights_only_unpickler import _get_allowed_globals

from runtime.checkpoint import formats
from runtime.checkpoint.trust import load, numpy
from runtime.collectives.nested import leaves
from tests.runtime import forged
from tests.runtime.forged import array, built, called, content, dtype, items, new, number, text

CODES = ["f8", "O", "O8", "|O", "M8", "m8[ns]", "U0", "S3", "V8", "b1", "i8,O", "object"]
_OBJECTS = 0x3F  # the flags of numpy's dtype of objects
POINTERS = content(b"\x41" * 16)


_ARRAY = array(items(number(2)), dtype(), POINTERS)


def allowed() -> list[str]:
    """Every class and function that a file may name, as pickles name it."""
    own = [f"{one.__module__}.{one.__qualname__}" for one in load._VALUES]
    kinds: dict[Any, str] = {}  # of dtypes and the like, which are nothing but values, one a kind
    for path, one in _get_allowed_globals().items():
        is_own = callable(one) and type(one) is not type(torch.FloatTensor)
        kinds.setdefault(path if is_own else (type(one), path.rpartition(".")[0]), path)
    paths = [*kinds.values(), *own, *(name for _, name in numpy.allowed())]
    return [" ".join(path.rsplit(".", 1)) for path in sorted(set(paths))]


ODD = {
    "nothing": items(),
    "a number": number(3),
    "a huge number": number(2**62),
    "a negative number": number(-1),
    "none": b"N",
    "a text": text("O8"),
    "bytes": POINTERS,
    "a dtype's state of objects": forged.dtype_state("|", _OBJECTS),
    "a dtype's state of another size": forged.dtype_state("|", 0, 3),
    "a dtype's state with fields": items(
        number(3),
        text("|"),
        items(text("O8"), items(number(1))),
        items(text("a")),
        b"}",
        number(8),
        number(1),
        number(_OBJECTS),
    ),
    "an array's state": items(number(1), items(number(2)), dtype("O8"), b"\x89", POINTERS),
    "an array's state by a code": items(number(1), items(number(2)), text("O8"), b"\x89", POINTERS),
    "an array's state, too large": items(
        number(1), items(number(2**40), number(2**40)), dtype(), b"\x89", POINTERS
    ),
    "an array's state, negative": items(number(1), items(number(-2)), dtype(), b"\x89", POINTERS),
    "a dict": forged.mapped(text("value"), number(1), text("__class__"), text("x")),
    "slots": items(b"N", forged.mapped(text("value"), text("O8"))),
    "a storage": items(forged.stored(), number(0), items(number(4)), items(number(1))),
    "too much of a storage": items(
        forged.stored(), number(2**40), items(number(2**40)), items(number(-1)), b"\x89", b"}"
    ),
}


def ways(name: str, odd: bytes) -> Iterator[tuple[str, bytes]]:
    """A pickle for each way to use a name with something odd."""
    function, one, many = forged.named(name), odd + b"\x85", odd
    yield "REDUCE of one", function + one + b"R"
    yield "NEWOBJ of one", function + one + b"\x81"
    yield "REDUCE", function + many + b"R"
    yield "NEWOBJ", function + many + b"\x81"
    yield "BUILD of itself", built(function, odd)
    yield "BUILD of what it makes", built(called(name), odd)
    yield "BUILD of a new one", built(new(name), odd)
    yield "BUILD twice", built(built(called(name), odd), odd)
    yield "REDUCE with numpy's", function + items(dtype(), odd) + b"R"
    yield "REDUCE of an array", function + items(_ARRAY, odd) + b"R"


def of_numpys() -> Iterator[tuple[str, bytes]]:
    """Every state for what is numpy's."""
    for label, odd in ODD.items():
        yield f"BUILD of a dtype with {label}", built(dtype(), odd)
        yield f"BUILD of an array with {label}", built(_ARRAY, odd)


def table() -> Iterator[tuple[str, bytes]]:
    """Every name, in every way, with everything odd."""
    yield from of_numpys()
    for name in allowed():
        for label, odd in ODD.items():
            for way, pickled in ways(name, odd):
                yield f"{way}: {name} with {label}", pickled


def _value() -> st.SearchStrategy[bytes]:
    names = st.sampled_from(allowed())
    basic = st.sampled_from([*ODD.values(), dtype(), dtype("U3"), forged.stored(), b"\x88"])
    codes = st.sampled_from(CODES).map(text)
    return st.recursive(
        st.one_of(basic, codes, names.map(forged.named), st.integers(-(2**70), 2**70).map(number)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=5).map(lambda found: items(*found)),
            st.lists(inner, max_size=3).map(lambda found: forged.listed(*found)),
            st.builds(called, names, inner, inner),
            st.builds(new, names, inner),
            st.builds(built, inner, inner),
            st.builds(array, inner, inner, inner),
            st.builds(lambda one: one + b"q\x01h\x01\x86", inner),
        ),
        max_leaves=8,
    )


@settings(
    max_examples=600,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(_value())
def drawn(pickled: bytes) -> None:
    """Values in values."""
    check("drawn", pickled)


def check(label: str, pickled: bytes) -> bool:
    """Load a pickle; whether it has given anything."""
    print(label, pickled, file=_LAST, flush=True)  # the last line names what has crashed
    try:
        loaded = formats.load(forged.file(pickled))
    except pickle.UnpicklingError:
        return False
    except Exception as error:
        raise AssertionError(f"{label}: {pickled!r}: {error!r}") from error
    for one in leaves(loaded):
        _use(label, one)
    return True


def _use(label: str, one: Any) -> None:
    """Read all that a value has."""
    if isinstance(one, np.ndarray | np.generic):
        assert not one.dtype.hasobject, label
        assert type(one.dtype) in KNOWN, label
        one.tobytes()
    if isinstance(one, np.dtype):
        assert not one.hasobject, label
        np.zeros(3, one)
    assert not isinstance(one, numpy.Dtype | numpy.Array), label
    if type(one) is torch.Tensor and one.layout is torch.strided and one.device.type == "cpu":
        assert one.numel() * one.itemsize <= 2**32, label
        if one.numel() < 2**16 and not one.is_quantized:
            one.clone()


KNOWN = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSUMm"}
_LAST = sys.stderr


def main(what: str) -> None:
    """Run one of the two."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    whats: dict[str, Callable[[], Any]] = {
        "table": lambda: [check(*one) for one in table()],
        "drawn": drawn,
    }
    whats[what]()


if __name__ == "__main__":
    main(sys.argv[1])
