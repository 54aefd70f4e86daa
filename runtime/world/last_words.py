"""What a process that fails leaves for whoever asks why: its exception, where a kubelet finds it.

In a job's pod an exception that nothing catches is written to the container's termination message,
from where the operator has it for the job's `status.failures`. Of several processes of a pod the
first one's stays. Outside of a job nothing is changed.
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

PATH = "ACCELERATEDJOB_TERMINATION_LOG"  # where the container's is not where it is by default
DEFAULT_PATH = "/dev/termination-log"
MAX_BYTES = 4096  # a kubelet cuts off what is more
_MAX_MESSAGE = 512  # characters
_MAX_TYPE = 128


def install(env: Mapping[str, str]) -> None:
    """Have an uncaught exception told, if this process is of a job's pod; the first time."""
    if REPLICAS not in env or isinstance(sys.excepthook, _Hook):
        return
    rank = env.get(RANK, "")
    sys.excepthook = _Hook(env.get(PATH), int(rank) if rank.isdecimal() else None)


class _Hook:
    """Tells of an exception, and then lets whoever was there before do what it does."""

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
        with contextlib.suppress(OSError):  # there is none, or it is full: stderr has it all
            _write_first(self._path, fitted(facts, "".join(lines)))


def _name(kind: type[BaseException]) -> str:
    """The type as Python shows it."""
    is_builtin = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # a user's class; the exception itself is what matters
        return f"its message cannot be had: {broken!r}"


def fitted(facts: Mapping[str, Any], trace: str) -> bytes:
    """The facts with as much of a traceback's tail as fits."""
    tail = trace[-MAX_BYTES:]
    while len(written := _encoded(facts, tail)) > MAX_BYTES and tail:
        tail = tail[len(written) - MAX_BYTES :]
    return written


def _encoded(facts: Mapping[str, Any], tail: str) -> bytes:
    told = json.dumps({**facts, "traceback": tail}, ensure_ascii=False)
    return told.encode(errors="replace")


def _write_first(path: str | None, text: bytes) -> None:
    """Write into a file that is empty; who comes later finds it taken."""
    import fcntl  # noqa: PLC0415  # pods have it, not every machine

    made = os.O_CREAT if path else 0  # the default one is made by a kubelet, or there is none
    file = os.open(path or DEFAULT_PATH, os.O_WRONLY | made, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_size == 0:
            os.write(file, text)
    finally:
        os.close(file)
