"""Brings a checkpoint from one process to all machines, so that storage is read once.

It is for a copy that rank 0 has downloaded. A directory that all machines share is better loaded
directly: all processes of a machine map the same files, so that the machine reads them once, and a
copy would cost its network and its disk as much again.

The first process of each machine receives the files, over a gloo group, and writes them to a local
directory, which all processes of the machine load. Nothing depends on what is in the files, and a
process needs memory for two chunks only.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import distributed

from runtime.checkpoint import manifest
from runtime.checkpoint.checksums import Checksums, HashedFile
from runtime.checkpoint.manifest import MANIFEST
from runtime.collectives.objects import broadcast_object_list, each_object
from runtime.errors import CheckpointError, DamagedCheckpoint
from runtime.world.state import PartialState

_CHUNK = 2**24  # bytes of a broadcast


@contextmanager
def on_each_machine(
    folder: Path | None, *, into: Path | None = None, verify: bool = True
) -> Iterator[Path]:
    """Have a checkpoint in a local directory of each machine. All processes must enter this.

    On rank 0's machine this is the directory itself. On others it is a copy, which is removed at
    the end of the context. Rank 0 reads the files once, and compares their checksums.

    Args:
        folder: the checkpoint, with a manifest, which the processes on rank 0's machine can read;
            only rank 0's argument counts.
        into: an existing local directory for the copy, with room for it; by default the one for
            temporary files.
        verify: with a single machine, whether to read the files and compare their checksums;
            otherwise only names and sizes are compared.

    Raises:
        DamagedCheckpoint: the files do not match the manifest; raised by all processes.
        CheckpointError: a machine could not write the files; raised by all processes.
    """
    state = PartialState()
    (source,) = broadcast_object_list([folder])
    leaders = _leaders(each_object(state.local_process_index))
    if len(leaders) == 1:
        _must_be_none(manifest.damage(source, reads=verify) if state.is_main_process else None)
        yield source
        return
    with ExitStack() as stack:
        own, problem = source, None
        if state.process_index in leaders[1:]:
            try:
                made = tempfile.TemporaryDirectory(prefix="checkpoint-", dir=into)
                own = Path(stack.enter_context(made))
            except OSError as error:
                problem = f"a copy of {source} needs a local directory: {error}"
        _must_be_none(problem)
        _spread(source, own, leaders)
        own = _of_machine(own, leaders)
        try:
            yield own
        finally:
            _meet()  # no copy goes while others of its machine read it


def _leaders(local_ranks: list[int]) -> list[int]:
    """Return the rank of each machine's first process, in order.

    >>> _leaders([0, 1, 0, 1])
    [0, 2]
    """
    return [rank for rank, local in enumerate(local_ranks) if local == 0]


def _machine(rank: int, leaders: list[int]) -> int:
    """Return the index of a rank's machine; the ranks of a machine follow its leader.

    >>> [_machine(rank, [0, 2]) for rank in range(4)]
    [0, 0, 1, 1]
    """
    return sum(leader <= rank for leader in leaders) - 1


def _of_machine(own: Path, leaders: list[int]) -> Path:
    """Return the directory of the leader of this process' machine."""
    found: list[Path] = each_object(own)
    return found[leaders[_machine(PartialState().process_index, leaders)]]


def _meet() -> None:
    with contextlib.suppress(RuntimeError):  # a process has failed: its error is the one to show
        each_object(None)


def _spread(source: Path, target: Path, leaders: list[int]) -> None:
    """Copy the files of a checkpoint from rank 0 to the target directories of other leaders.

    Raises:
        DamagedCheckpoint: rank 0 has found the checkpoint to be damaged.
        CheckpointError: another leader has failed.
    """
    group = distributed.new_group(leaders, backend="gloo")  # all processes must call it
    is_leader = PartialState().process_index in leaders
    try:
        content = _agreed(lambda: _manifest(source))
        files = manifest.parse(content, str(source / MANIFEST))["files"]
        for name, expected in files.items():
            problem = None
            if is_leader:
                problem = _File(source, target, name, expected).copy(group)
            _must_be_none(problem)
        problem = None
        if is_leader and target != source:
            problem = _failure(target / MANIFEST, lambda: (target / MANIFEST).write_bytes(content))
        _must_be_none(problem)
    finally:
        if is_leader:
            distributed.destroy_process_group(group)


def _manifest(source: Path) -> bytes:
    problem = manifest.damage(source, reads=False)
    if problem is not None:
        raise ValueError(problem)
    return (source / MANIFEST).read_bytes()


def _agreed(make: Any) -> bytes:
    """Return rank 0's result on all processes.

    Raises:
        DamagedCheckpoint: rank 0 has failed.
    """
    made: bytes | str | None = None
    if PartialState().is_main_process:
        try:
            made = make()
        except (OSError, ValueError) as error:
            made = str(error)
    (found,) = broadcast_object_list([made])
    if isinstance(found, str):
        raise DamagedCheckpoint(found)
    return bytes(found)


def _must_be_none(problem: str | None) -> None:
    """Raise the first problem of any process on all.

    Raises:
        DamagedCheckpoint: it is rank 0's.
        CheckpointError: it is another's.
    """
    found = each_object(problem)
    for rank, one in enumerate(found):
        if one is not None:
            raise (CheckpointError if rank else DamagedCheckpoint)(one)


def _failure(path: Path, run: Callable[[], object]) -> str | None:
    """Return what the file system has refused while a function ran; None if it has done all."""
    try:
        run()
    except OSError as error:
        return f"{path}: {error}"
    return None


class _File:
    """A file that rank 0 sends and the other leaders write."""

    def __init__(self, source: Path, target: Path, name: str, expected: dict[str, Any]) -> None:
        self._expected = expected
        self._sends = source == target
        self._path = target / name
        self._problem: str | None = None

    def copy(self, group: Any) -> str | None:
        """Send or receive the file; after an error the chunks that are left are still received.

        Returns:
            What has failed; None if nothing has.
        """
        size, stack, checksums = self._expected["bytes"], ExitStack(), Checksums()
        file = self._try(self._opened, stack)
        try:
            for start in range(0, size, _CHUNK):
                view = memoryview(bytearray(min(_CHUNK, size - start)))
                chunk = torch.frombuffer(view, dtype=torch.uint8)
                if self._sends:
                    self._try(_fill, file, view)
                    checksums.add(view)
                distributed.broadcast(chunk, 0, group=group)
                if not self._sends:
                    self._try(_put, file, view)
        finally:
            failure = _failure(self._path, stack.close)  # some file systems write only now
        self._problem = self._problem or failure
        if self._problem is None:
            entry = checksums.entry() if self._sends else file.entry()
            if entry != self._expected:
                self._problem = f"{self._path} has changed since it was written"
        return self._problem

    def _opened(self, stack: ExitStack) -> Any:
        if self._sends:
            return stack.enter_context(self._path.open("rb", buffering=0))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(HashedFile(self._path))

    def _try(self, run: Any, *args: Any) -> Any:
        """Return a function's result, unless an earlier one has failed or this one does."""
        if self._problem is None:
            try:
                return run(*args)
            except OSError as error:
                self._problem = f"{self._path}: {error}"
        return None


def _fill(file: BinaryIO, view: memoryview) -> None:
    while view:
        n = file.readinto(view)  # type: ignore[attr-defined]  # it is not buffered
        if not n:
            raise OSError("the file is shorter than its manifest says")
        view = view[n:]


def _put(file: HashedFile, view: memoryview) -> None:
    file.write(view)
