"""Loads files of torch.save from untrusted sources: only plain values, or an error."""

import datetime as dt
import decimal
import io
import os
import pathlib
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch

from runtime.checkpoint.trust import archive, numpy

_VALUES = (  # allowed in addition to the numbers, strings, tensors and containers of torch.load
    *(bytearray, bytes, complex, decimal.Decimal, frozenset, list, dict, range, set, slice, tuple),
    *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    *(pathlib.PosixPath, pathlib.PurePosixPath, io.BytesIO),
)
_TORCHS = re.compile(r"WeightsUnpickler error:\s*(.+?)\s*(?:\n\n|$)", re.DOTALL)
_REFUSED = (  # exceptions that a damaged pickle or a misused constructor can raise
    *(pickle.UnpicklingError, struct.error, ArithmeticError, AssertionError, AttributeError),
    *(EOFError, LookupError, RuntimeError, TypeError, ValueError),
)


def load_untrusted(
    f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, **kwargs: Any
) -> Any:
    """Load tensors, numbers, strings, bytes, dates, numpy arrays, and containers of these.

    Args:
        f: the file or its path.
        map_location: the device to load tensors to, as in torch.load.
        **kwargs: arguments of torch.load.

    Raises:
        UnpicklingError: the file contains another object, is damaged, or would need far more
            memory than its size.
    """
    try:
        names = archive.check(f)
        with _values_allowed():
            loaded = torch.load(f, map_location=map_location, **kwargs | {"weights_only": True})
        has_arrays = any(name.startswith("numpy.") for name in names)
        return numpy.settled(loaded) if has_arrays else loaded
    except torch.OutOfMemoryError:
        raise  # not a fault of the file: the device has too little memory
    except _REFUSED as error:
        raise pickle.UnpicklingError(_refusal(f, error)) from error


@contextmanager
def _values_allowed() -> Iterator[None]:
    """Let torch.load create plain values inside the context.

    Classes and functions of numpy are not allowed there, even if other code has allowed them.
    """
    numpys = [one for one in torch.serialization.get_safe_globals() if numpy.is_numpys(one)]
    kept = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([one for one in kept if one not in numpys])
    try:
        with torch.serialization.safe_globals([*_VALUES, *numpy.allowed()]):
            yield
    finally:
        torch.serialization.add_safe_globals(kept)


def reason(error: BaseException) -> str:
    """Return the message of an error, without torch's advice to load with `weights_only=False`."""
    said = str(error) if isinstance(error, pickle.UnpicklingError) else repr(error)
    inner = re.search(_TORCHS, said)
    return inner[1] if inner else said


def _refusal(f: Any, error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return f"{f} cannot be read: {reason(error)}; load another checkpoint, or save it again"
    return (
        f"{f} must contain only tensors, numbers, strings, and containers of these, but contains "
        f"{found[1]}: creating one could execute any code. If you trust the file, load it with "
        f'load_kwargs={{"weights_only": False}}, or pass that class to '
        "torch.serialization.add_safe_globals"
    )
