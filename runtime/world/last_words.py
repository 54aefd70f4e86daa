"""Writes an uncaught exception to the termination message of the container.

The kubelet copies the message into the status of the pod, and the operator copies it from there to
the job's `status.failures`. If several processes of a pod fail, the first exception is kept.
Outside of a job nothing is installed.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from runtime.world.contract import RANK, REPLICAS

PATH = "ACCELERATEDJOB_TERMINATION_LOG"  # the variable of a path other than DEFAULT_PATH
DEFAULT_PATH = "/dev/termination-log"
MAX_BYTES = 4096  # the kubelet truncates longer messages
_MAX_MESSAGE = 512  # characters
_MAX_TYPE = 128


def install(env: Mapping[str, str]) -> None:
    """Install the exception hook once, if this process runs in a pod of a job."""
    if REPLICAS not in env or isinstance(sys.excepthook, _Hook):
        return
    rank = env.get(RANK, "")
    sys.excepthook = _Hook(env.get(PATH), int(rank) if rank.isdecimal() else None)


class _Hook:
    """An exception hook that writes the termination message, then calls the previous hook."""

    def __init__(self, path: str | None, rank: int | None) -> None:
        self._path, self._rank = path, rank
        self._before = sys.excepthook

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        try:
            if not issubclass(kind, KeyboardInterrupt):
                self._tell(kind, error, trace)
        finally:
            self._before(kind, error, trace)

    def _tell(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        lines = traceback.format_exception(kind, error, trace)
        facts = {
            "exception": _name(kind)[:_MAX_TYPE],
            "message": _said(error)[:_MAX_MESSAGE],
            "rank": self._rank,
        }
        # The file may be missing or the disk full; the traceback is on stderr anyway.
        with contextlib.suppress(OSError):
            _write_first(self._path, fitted(facts, "".join(lines)))


def _name(kind: type[BaseException]) -> str:
    """Return the name of an exception type as a traceback shows it."""
    is_builtin = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the __str__ of the script's class may raise anything
        return f"str() of this exception failed: {broken!r}"


def fitted(facts: Mapping[str, Any], trace: str) -> bytes:
    """Return the facts as JSON, with as much of the traceback's end as fits in `MAX_BYTES`."""
    tail = trace[-MAX_BYTES:]
    while len(written := _encoded(facts, tail)) > MAX_BYTES and tail:
        tail = tail[len(written) - MAX_BYTES :]
    return written


def _encoded(facts: Mapping[str, Any], tail: str) -> bytes:
    told = json.dumps({**facts, "traceback": tail}, ensure_ascii=False)
    return told.encode(errors="replace")


def _write_first(path: str | None, text: bytes) -> None:
    """Write to the file unless another process of this pod has written to it."""
    import fcntl  # noqa: PLC0415  # not available on Windows

    made = os.O_CREAT if path else 0  # the kubelet creates the default file
    file = os.open(path or DEFAULT_PATH, os.O_WRONLY | made, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_size == 0:
            os.write(file, text)
    finally:
        os.close(file)
