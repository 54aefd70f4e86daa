"""Writes an uncaught exception to the termination message of the container.

The kubelet copies the message into the status of the pod, and the operator copies it from there to
the job's `status.failures`. If several processes of a pod fail, the first exception is kept.
While the training hangs the file says so, whatever ends the pod then; what a process writes
afterwards is written beside it. A training leaves how far it came. Outside of a job nothing is
written.
"""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from runtime.world.contract import RANK, REPLICAS

PATH = "ACCELERATEDJOB_TERMINATION_LOG"  # the variable of a path other than DEFAULT_PATH
DEFAULT_PATH = "/dev/termination-log"
MAX_BYTES = 4096  # the kubelet truncates longer messages
_MAX_MESSAGE = 512  # characters
_MAX_TYPE = 128
_HANG = "hang"  # the key of a verdict that stands
_LEAVES: dict[str, Any] = {"stopped": {}}  # what a script that ends by itself leaves
HANGS = "Hang"  # the exception in a message that says nothing but the verdict


def install(env: Mapping[str, str]) -> None:
    """Install the exception hook once, if this process runs in a pod of a job."""
    if REPLICAS not in env or isinstance(sys.excepthook, _Hook):
        return
    rank = env.get(RANK, "")
    sys.excepthook = hook = _Hook(env.get(PATH), int(rank) if rank.isdecimal() else None)
    _hooks.append(hook)


def report_step(read: Callable[[], int]) -> None:
    """Report the step at which the training ends, from here on; nothing outside of a job.

    `sys.excepthook` may be another one by now, which calls that of this module: torch wraps it when
    it joins the processes.

    Args:
        read: returns the number of completed optimizer steps.
    """
    for hook in _hooks:
        hook.read_step = read


class _Hook:
    """An exception hook that writes the termination message, then calls the previous hook."""

    def __init__(self, path: str | None, rank: int | None) -> None:
        self._path, self._rank = path, rank
        self._before = sys.excepthook
        self.read_step: Callable[[], int] | None = None  # None before the training

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
        if self.read_step is not None:
            facts["step"] = self.read_step()
        # The file may be missing or the disk full; the traceback is on stderr anyway.
        with contextlib.suppress(OSError):
            _write_first(self._path, facts, "".join(lines))


_hooks: list[_Hook] = []  # those that were installed


def write_stopped(env: Mapping[str, str], step: int) -> None:
    """Write that this process stops on request; nothing outside of a job.

    The operator restarts such a process without counting a failure.

    Args:
        env: the environment variables.
        step: the step of the checkpoint from which the job can go on.
    """
    write(env, {"stopped": {"step": step}})


def write_leaving(env: Mapping[str, str]) -> None:
    """Write that the script knows that it is to stop, and ends by itself; nothing outside of a job.

    Its exit code may be 0, which would say that the training is complete. An exception replaces
    this, and so does a stop with a checkpoint.

    Args:
        env: the environment variables.
    """
    write(env, _LEAVES)


def write_progress(env: Mapping[str, str], progress: Mapping[str, Any]) -> None:
    """Write how far a training came that has ended well; nothing outside of a job.

    The operator asks every few seconds, so it has not heard of the last steps.

    Args:
        env: the environment variables.
        progress: what `/progress` would answer.
    """
    write(env, {"progress": progress})


def add_progress(env: Mapping[str, str], progress: Mapping[str, Any]) -> None:
    """Write how far a training came beside what a process has written; nothing outside of a job.

    Do nothing if no process has: the kubelet then uses the end of the log, which says more.

    Args:
        env: the environment variables.
        progress: what `/progress` would answer.
    """

    def both(before: bytes) -> bytes | None:
        found = _read(before)
        return None if found is None else _fitted({**found, "progress": progress})

    if REPLICAS in env:
        with contextlib.suppress(OSError):  # as in `_tell`
            _change(env.get(PATH), both)


def _name(kind: type[BaseException]) -> str:
    """Return the name of an exception type as a traceback shows it."""
    is_builtin = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the __str__ of the script's class may raise anything
        return f"str() of this exception failed: {broken!r}"


def write(env: Mapping[str, str], facts: Mapping[str, Any]) -> None:
    """Write the termination message for a process that could not, unless there is a message.

    Do nothing outside of a job.

    Args:
        env: the environment variables of the job.
        facts: what is written, as JSON.
    """
    if REPLICAS in env:
        with contextlib.suppress(OSError):  # as in `_tell`
            _write_first(env.get(PATH), facts)


def read(env: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what a process of this pod has written; None outside of a job.

    Args:
        env: the environment variables of the job.
    """
    if REPLICAS not in env:
        return None
    found: dict[str, Any] = {}

    def keep(before: bytes) -> None:
        found.update(_read(before) or {})

    with contextlib.suppress(OSError):  # as above
        _change(env.get(PATH), keep)
    return found


def clear(env: Mapping[str, str]) -> None:
    """Remove what was written: the processes begin again. Do nothing outside of a job.

    Args:
        env: the environment variables of the job.
    """
    if REPLICAS in env:
        with contextlib.suppress(OSError):  # as above
            _change(env.get(PATH), lambda _: b"")


def write_hang(env: Mapping[str, str], hang: Mapping[str, Any] | None) -> None:
    """Write the verdict that the training hangs, or take it back; nothing outside of a job.

    It is written when it is known, because a process that is killed writes nothing any more.

    Args:
        env: the environment variables of the job.
        hang: the verdict, with `message` and `rank` among others; None if it stands no longer.
    """
    if REPLICAS in env:
        with contextlib.suppress(OSError):  # as above
            _change(env.get(PATH), lambda before: _with_hang(before, hang))


def write_hang_as_init(env: Mapping[str, str], hang: Mapping[str, Any] | None) -> None:
    """Write the verdict that the training hangs, if this process is PID 1: no launcher does then.

    Args:
        env: the environment variables of the job.
        hang: as in `write_hang`.
    """
    if os.getpid() == 1:
        write_hang(env, hang)


def _with_hang(before: bytes, hang: Mapping[str, Any] | None) -> bytes | None:
    """Return what is written with this verdict, or without one; None to leave it as it is."""
    found = _read(before)
    if before and found is None:
        return None
    kept = {} if _is_only_hang(found) else {k: v for k, v in (found or {}).items() if k != _HANG}
    if hang is None:
        return _fitted(kept) if kept else b""
    words = {"exception": HANGS, "message": hang["message"][:_MAX_MESSAGE], "rank": hang["rank"]}
    facts = {name: value for name, value in hang.items() if name != "message"}
    return _fitted({**(kept or words), _HANG: facts})


def _is_only_hang(found: Mapping[str, Any] | None) -> bool:
    return found is not None and found.get("exception") == HANGS and _HANG in found


def _read(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that was written before; None if it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _fitted(facts: Mapping[str, Any]) -> bytes:
    trace = facts.get("traceback")
    if not isinstance(trace, str):  # a script may have written anything
        return fitted(facts, "")
    return fitted({name: value for name, value in facts.items() if name != "traceback"}, trace)


def fitted(facts: Mapping[str, Any], trace: str) -> bytes:
    """Return the facts as JSON, with as much of the traceback's end as fits in `MAX_BYTES`.

    If the facts alone are too long, the end of their message is left out.
    """
    tail, kept = trace[-MAX_BYTES:], dict(facts)
    if not isinstance(kept.get("message", ""), str):
        kept["message"] = str(kept["message"])
    while len(written := _encoded(kept, tail)) > MAX_BYTES and (tail or kept.get("message")):
        over = len(written) - MAX_BYTES
        if not tail:
            kept["message"] = kept["message"][: -max(1, over // 4)]
        tail = tail[over:]
    return written


def _encoded(facts: Mapping[str, Any], tail: str) -> bytes:
    told = json.dumps({**facts, **({"traceback": tail} if tail else {})}, ensure_ascii=False)
    return told.encode(errors="replace")


def _write_first(path: str | None, facts: Mapping[str, Any], trace: str = "") -> None:
    """Write to the file unless another process of this pod has; a verdict stays beside it."""

    def words(before: bytes) -> bytes | None:
        found = _read(before) or {}
        hang = {_HANG: found[_HANG]} if _HANG in found else {}
        is_final = bool(before) and not _is_only_hang(found) and found != {**_LEAVES, **hang}
        return None if is_final else fitted({**facts, **hang}, trace)

    _change(path, words)


def _change(path: str | None, change: Callable[[bytes], bytes | None]) -> None:
    """Replace what is in the file, while no other process of this pod does.

    A process that is killed meanwhile leaves what was there or what is to be there, perhaps with
    spaces behind it, which JSON allows.
    """
    import fcntl  # noqa: PLC0415  # not available on Windows

    made = os.O_CREAT if path else 0  # the kubelet creates the default file
    file = os.open(path or DEFAULT_PATH, os.O_RDWR | made, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = os.pread(file, MAX_BYTES + 1, 0)
        text = change(before.strip())
        if text is not None:
            os.pwrite(file, text.ljust(len(before)), 0)
            os.ftruncate(file, len(text))
    finally:
        os.close(file)
