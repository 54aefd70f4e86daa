"""The automatic checkpoints in memory, which a restart in the same pods goes on from."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.checkpoint.directory import first_problem, gathered
from runtime.checkpoint.formats import writes
from runtime.checkpoint.manifest import name_of
from runtime.checkpoint.stores.store import Store
from runtime.checkpoint.stores.volume import Volume
from runtime.errors import CheckpointError, DamagedCheckpoint
from runtime.loop.lineage import Entry, Remembered, remembered
from runtime.loop.naming import Numbers
from runtime.loop.room import Room
from runtime.loop.state import FACT


class Memory:
    """The automatic checkpoints in a directory in memory, one of each machine's own.

    There are at most two: a complete one, and one that is written, or that some machine may not
    have completed. The first process of each machine writes.

    Attributes:
        root: the directory.
        numbers: the numbers of new checkpoints.
        newest: the number of the newest one that is complete on all machines; None if there is
            none.
        written: the number of the one that was begun since, which some may not have completed.
    """

    def __init__(self, root: Path) -> None:
        """Take a directory, which need not exist."""
        self.root = root
        self._store = Store(Volume(root), keep=2)
        self.numbers = Numbers(self._store)
        self.newest: int | None = None
        self.written: int | None = None
        self._is_first = True

    def find(self, stored: Sequence[Entry]) -> Remembered:
        """Return which checkpoint is to be resumed, and remove all others; called by all processes.

        Those that are not taken now must never be: the training goes on without them.

        Args:
            stored: the checkpoints on storage, in order.

        Raises:
            CheckpointError: the directory cannot be used.
        """
        each = gathered(self._entries, makes=writes(save_on_each_node=True))
        found = remembered([one for one in each if one is not None], stored)
        self.newest = None if found.entry is None else found.entry.number
        self.written = None
        self.trim(None)
        self.numbers.next = 0 if self.newest is None else self.newest + 1
        return found

    def _entries(self) -> list[Entry]:
        """Return the undamaged checkpoints of this machine, as far as this version knows them."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            sentence = (
                f"{self.root} must be a directory that this process can create: {error}; change or "
                "unset ACCELERATEDJOB_CHECKPOINT_MEMORY_DIR"
            )
            raise CheckpointError(sentence) from error
        found = []
        for number in self._store.numbers():
            with contextlib.suppress(DamagedCheckpoint, ValueError):  # storage has others
                facts = self._store.manifest(number)
                if FACT in facts and self._store.damage(number) is None:
                    found.append(Entry.of(number, facts))
        return found

    def trim(self, published: int | None) -> None:
        """Remove all checkpoints but the newest complete one; called by all processes.

        Args:
            published: the number of another one that is still read on this machine, if any.

        Raises:
            CheckpointError: one cannot be removed.
        """
        self._keep({one for one in (self.newest, published) if one is not None})

    def clear(self) -> None:
        """Remove all checkpoints; called by all processes.

        Raises:
            CheckpointError: one cannot be removed.
        """
        self.newest = self.written = None
        self._keep(set())

    def _keep(self, numbers: set[int]) -> None:
        def remove() -> None:
            for one in self._store.storage.list():
                if one.number not in numbers:
                    self._store.storage.remove(one.number)

        gathered(remove, makes=writes(save_on_each_node=True))

    def complete(self) -> None:
        """Note that all machines have completed what was written last."""
        if self.written is not None:
            self.newest, self.written = self.written, None

    def lack(self, size: Callable[[], int]) -> str | None:
        """Return why another checkpoint does not fit on some machine; None if it fits on all.

        All processes call this. The first time there must be room for the snapshot of the states
        and for two checkpoints, so that this is not found out later.

        Args:
            size: returns the bytes of a checkpoint.
        """
        is_first, self._is_first = self._is_first, False
        copies = 2 - (self.newest is not None) if is_first else 1

        def look() -> str | None:
            return Room.of(self.root).lack(size(), copies, with_snapshot=is_first)

        return first_problem(look, looks=writes(save_on_each_node=True))

    def folder(self, number: int) -> Path:
        """Return the directory of a checkpoint."""
        return self.root / name_of(number)
