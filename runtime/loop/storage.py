"""The automatic checkpoints on storage: a directory, or an object store."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.checkpoint.directory import first_problem, from_main
from runtime.checkpoint.formats import writes
from runtime.checkpoint.spreading import on_each_machine
from runtime.checkpoint.stores.opening import is_url, open_store
from runtime.checkpoint.stores.store import newest
from runtime.collectives.objects import each_object
from runtime.errors import CheckpointError, DamagedCheckpoint
from runtime.loop.lineage import Entry, kept
from runtime.loop.naming import Numbers
from runtime.loop.state import FACT
from runtime.world.log import get_logger
from runtime.world.state import PartialState

logger = get_logger(__name__)


class Storage:
    """The automatic checkpoints in a directory or an object store, in the order of their numbers.

    Methods that call collectives say so; the others are for the processes that write.

    Attributes:
        name: the path or URL.
        numbers: the numbers of new checkpoints.
        is_remote: whether this is an object store.
        on_each_machine: whether each machine has a directory of its own.
    """

    def __init__(self, place: str, keep: int, *, on_each_machine: bool) -> None:
        """Take a place, which need not exist; nothing is read or written.

        Args:
            place: a path or a URL.
            keep: the number of checkpoints to keep, >= 1.
            on_each_machine: whether each machine has a directory of its own.

        Raises:
            CheckpointError: the package for the object store is missing, or the URL is invalid.
            ValueError: each machine has an object store of its own.
        """
        self.is_remote, self.on_each_machine = is_url(place), on_each_machine
        if self.is_remote and on_each_machine:
            sentence = (
                f"with save_on_each_node=True each machine keeps checkpoints of its own, but "
                f"{place} is the same for all: name a directory, or use save_on_each_node=False"
            )
            raise ValueError(sentence)
        self._store = open_store(place, keep=keep)
        self._keep = keep
        self.name = self._store.storage.name
        self.numbers = Numbers(self._store)
        self._known: dict[int, Entry | None] = {}  # None: damaged
        self._drop: Callable[[], object] | None = None  # removes the local copy
        self._copy: tuple[int, Path] | None = None  # of an object store's checkpoint

    @property
    def writes(self) -> bool:
        """Whether this process writes here."""
        return writes(self.on_each_machine)

    @property
    def entries(self) -> list[Entry]:
        """The undamaged checkpoints that are known, in order; the same on all processes."""
        return [one for _, one in sorted(self._known.items()) if one is not None]

    @property
    def newest_known(self) -> Entry | None:
        """The newest of these; None if there is none."""
        return self.entries[-1] if self.entries else None

    def look(self) -> None:
        """List the checkpoints; called by all processes.

        Raises:
            CheckpointError: the place cannot be read.
            ValueError: a checkpoint says where a loop was, but no loop has written this.
        """
        self.numbers.next, found = from_main(self._facts, makes=self.writes)
        self._known = {
            number: None if facts is None else Entry.of(number, facts)
            for number, facts in found.items()
        }

    def _facts(self) -> tuple[int, dict[int, dict[str, Any] | None]]:
        """Return the next number, and for each automatic checkpoint the manifest without files.

        Checkpoints that `save_state` has written there are not automatic. A damaged manifest is
        None.
        """
        found: dict[int, dict[str, Any] | None] = {}
        for number in self._store.numbers():
            try:
                facts = self._store.manifest(number)
            except DamagedCheckpoint:
                found[number] = None
                continue
            if FACT in facts:
                found[number] = {name: one for name, one in facts.items() if name != "files"}
        return self._store.next_number(), found

    def newest(self, call: int | None = None) -> tuple[Entry | None, list[str]]:
        """Return the newest undamaged checkpoint, and why newer ones are not taken.

        All processes call this. One of an object store is downloaded for it.

        Args:
            call: the number of the call of `epochs`; None for any.

        Raises:
            CheckpointError: the place cannot be read.
        """
        numbers = [
            number
            for number, one in self._known.items()
            if call is None or (one is not None and one.state.call == call)
        ]
        found = newest(
            numbers, lambda number: first_problem(lambda: self._problem(number), looks=self.writes)
        )
        for one in numbers:
            if found.number is None or one > found.number:
                self._known[one] = None
        entry = None if found.number is None else self._known[found.number]
        return entry, [one.reason for one in found.skipped]

    def _problem(self, number: int) -> str | None:
        try:
            if self.is_remote:
                self._fetched(number)
        except DamagedCheckpoint as error:
            return str(error)
        return None if self.is_remote else self._store.damage(number)

    def _fetched(self, number: int) -> Path:
        """Return a local copy of a checkpoint, which is made unless it is there already."""
        if self._copy is None or self._copy[0] != number:
            self.release()
            local = Path(tempfile.mkdtemp(prefix="checkpoint-"))
            self._drop = weakref.finalize(self, shutil.rmtree, local, ignore_errors=True)
            self._copy = number, self._store.fetch(number, local)
        return self._copy[1]

    @contextmanager
    def opened(self, entry: Entry) -> Iterator[Path]:
        """Have an undamaged checkpoint in a local directory of this process; called by all."""
        if not self.is_remote:
            yield self._store.stage(entry.number)
            return
        copy = from_main(lambda: self._fetched(entry.number), makes=self.writes)
        with on_each_machine(copy, verify=False) as folder:
            yield folder

    def release(self) -> None:
        """Remove the local copy, if there is one."""
        drop, self._drop, self._copy = self._drop, None, None
        if drop is not None:
            drop()

    def publish(self, folder: Path, entry: Entry, number: int) -> None:
        """Complete a checkpoint; may be called in a thread.

        Args:
            folder: the directory of the checkpoint, which may be that of its number.
            entry: the checkpoint.
            number: its number on storage.

        Raises:
            CheckpointError: it could not be written.
        """
        self._store.publish(folder, number)
        self._known[number] = replace(entry, number=number)

    def retain(self) -> None:
        """Remove old checkpoints; may be called in a thread."""
        numbers, among = kept(self.entries, self._keep), tuple(self._known)
        try:
            for name in self._store.retain(numbers, among=among):
                logger.debug("removed %s because %d are kept", name, self._keep)
        except (OSError, CheckpointError) as error:
            logger.warning("an old automatic checkpoint could not be removed: %s", error)

    def must_work(self, machines: int, *, is_sharded: bool) -> None:
        """Check that the parts of a sharded model can be written; called by all processes.

        Args:
            machines: the number of machines.
            is_sharded: whether the model is sharded.

        Raises:
            CheckpointError: each machine would write its parts to its own disk.
        """
        if self.is_remote and is_sharded and machines > 1:
            sentence = (
                f"automatic checkpoints of a sharded model on {machines} machines need a directory "
                f"that all share, got {self.name}: mount a ReadWriteMany volume and name it"
            )
            raise CheckpointError(sentence)


def machines() -> int:
    """Return the number of machines; called by all processes."""
    return each_object(PartialState().local_process_index).count(0)
