"""Loading a file of torch.save that nobody vouches for: plain values, or an error that names it."""

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

_VALUES = (  # beside numbers, texts, tensors and containers, which torch.load knows
    *(bytearray, bytes, complex, decimal.Decimal, frozenset, list, dict, range, set, slice, tuple),
    *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    *(pathlib.PosixPath, pathlib.PurePosixPath, io.BytesIO),
)
_TORCHS = re.compile(r"WeightsUnpickler error:\s*(.+?)\s*(?:\n\n|$)", re.DOTALL)
_REFUSED = (  # whatever a pickle that is no pickle, or a constructor that is misused, can raise
    *(pickle.UnpicklingError, struct.error, ArithmeticError, AssertionError, AttributeError),
    *(EOFError, LookupError, RuntimeError, TypeError, ValueError),
)


def load_untrusted(
    f: str | os.PathLike[str] | BinaryIO, map_location: Any = None, **kwargs: Any
) -> Any:
    """Load tensors, numbers, texts, bytes, dates, numpy's arrays, and containers of these.

    Args:
        f: the file.
        map_location: where tensors go.
        **kwargs: for torch.load.

    Raises:
        UnpicklingError: the file holds another object, is damaged, or asks for more memory than it
            has bytes.
    """
    try:
        names = archive.check(f)
        with _values_allowed():
            loaded = torch.load(f, map_location=map_location, **kwargs | {"weights_only": True})
        has_arrays = any(name.startswith("numpy.") for name in names)
        return numpy.settled(loaded) if has_arrays else loaded
    except torch.OutOfMemoryError:
        raise  # of the device
    except _REFUSED as error:
        raise pickle.UnpicklingError(_refusal(f, error)) from error


@contextmanager
def _values_allowed() -> Iterator[None]:
    """Within, torch makes the plain values, too, and nothing of numpy's, whoever has allowed it."""
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
    """What an error says, without torch's advice to trust the file."""
    said = str(error) if isinstance(error, pickle.UnpicklingError) else repr(error)
    inner = re.search(_TORCHS, said)
    return inner[1] if inner else said


def _refusal(f: Any, error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return f"{f} cannot be read: {reason(error)}; load another checkpoint, or write it again"
    return (
        f"{f} must hold tensors, numbers, texts, and containers of these, and holds {found[1]}: to "
        "make one could execute anything. If that file is to be trusted, load it with "
        f'load_kwargs={{"weights_only": False}}, or name that class to '
        "torch.serialization.add_safe_globals"
    )
