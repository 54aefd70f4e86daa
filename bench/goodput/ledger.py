"""What the ranks of a training write down, outside of the system that is measured.

Each entry is one record of a fixed size, written by one write(2) to a file that is opened for
appending: it survives a SIGKILL at any time, and the records of several processes do not mix. This
module imports no torch, so that a script can write its first entry before it imports anything.
"""

import enum
import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PATH = "GOODPUT_LEDGER"  # the environment variable of the file
IDS = 32  # the samples that a record has room for
_LAYOUT = struct.Struct(f"<BBHIIIddQ{IDS}I")


class Kind(enum.IntEnum):
    """What an entry says."""

    BORN = 1  # the first line of a script runs
    IMPORTED = 2  # its imports are done
    JOINED = 3  # it has joined the process group
    LOADED = 4  # it has its state, and trains from here on
    STEP = 5  # a step is done, but for the optimizer
    DONE = 6  # the training has ended; `value` is the digest of the weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the ledger.

    Attributes:
        kind: what it says.
        rank: the rank of the process at that time.
        pid: the process ID.
        step: the number of completed steps before this one; 0 unless this is a step.
        began: when the step began, by the monotonic clock of the machine, in seconds.
        ended: when the entry was written, by the same clock.
        value: the digest of the weights, in an entry of the kind DONE.
        ids: the samples of this rank in the step, at most `IDS`.

    Raises:
        ValueError: there are too many samples.
    """

    kind: Kind
    rank: int
    pid: int
    step: int = 0
    began: float = 0.0
    ended: float
    value: int = 0
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the number of samples."""
        if len(self.ids) > IDS:
            sentence = f"an entry must have at most {IDS} samples, got {len(self.ids)}"
            raise ValueError(sentence)

    def packed(self) -> bytes:
        """Return the record."""
        padding = (0,) * (IDS - len(self.ids))
        head = (self.kind, self.rank, len(self.ids), self.pid, self.step, 0)
        return _LAYOUT.pack(*head, self.began, self.ended, self.value, *self.ids, *padding)

    @classmethod
    def unpacked(cls, fields: Sequence[int | float]) -> Self:
        """Return the entry of the fields of a record."""
        kind, rank, count, pid, step, _ = (int(field) for field in fields[:6])
        ids = tuple(int(one) for one in fields[9 : 9 + count])
        began, ended, value = float(fields[6]), float(fields[7]), int(fields[8])
        return cls(
            kind=Kind(kind),
            rank=rank,
            pid=pid,
            step=step,
            began=began,
            ended=ended,
            value=value,
            ids=ids,
        )


class Ledger:
    """The end of a ledger to which one process writes."""

    def __init__(self, path: Path, rank: int) -> None:
        """Open the file, which is created if there is none.

        Args:
            path: the file.
            rank: the rank of this process; it may change.
        """
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.rank = rank
        self.began = time.monotonic()  # of the current step
        self._marked: set[Kind] = set()

    @classmethod
    def begun(cls, env: Mapping[str, str], rank: int) -> Self:
        """Open the ledger that the environment names, and write that the process is born."""
        made = cls(Path(env[PATH]), rank)
        made.mark(Kind.BORN)
        return made

    def mark(self, kind: Kind, value: int = 0) -> None:
        """Write that something has happened now; a step begins now."""
        now = self.began = time.monotonic()
        self._marked.add(kind)
        self._write(Entry(kind=kind, rank=self.rank, pid=os.getpid(), ended=now, value=value))

    def mark_once(self, kind: Kind) -> None:
        """Write that something has happened now, unless this process has written that."""
        if kind not in self._marked:
            self.mark(kind)

    def step(self, step: int, ids: Sequence[int]) -> None:
        """Write that a step is done, which began when the entry before it was written.

        Call it before the optimizer's step, if a checkpoint may be taken right after that: then a
        step of a checkpoint is always in the ledger, and one that is not in it is done again.

        Args:
            step: the number of completed steps before this one.
            ids: the samples of this rank.
        """
        now = time.monotonic()
        entry = Entry(
            kind=Kind.STEP,
            rank=self.rank,
            pid=os.getpid(),
            step=step,
            began=self.began,
            ended=now,
            ids=tuple(ids),
        )
        self._write(entry)
        self.began = now

    def _write(self, entry: Entry) -> None:
        os.write(self._file, entry.packed())


class Reader:
    """Reads the entries of a ledger that is being written."""

    def __init__(self, path: Path) -> None:
        """Begin at the beginning.

        Args:
            path: the file, which need not exist yet.
        """
        self._path = path
        self._read = 0  # bytes

    def new(self) -> list[Entry]:
        """Return the complete entries that were written since the last call, in order."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        whole = len(found) - len(found) % _LAYOUT.size
        self._read += whole
        return [Entry.unpacked(fields) for fields in _LAYOUT.iter_unpack(found[:whole])]
