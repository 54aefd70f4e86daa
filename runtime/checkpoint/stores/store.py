"""Which checkpoint of a store is taken, and which are removed; the same for each place."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.checkpoint.manifest import name_of
from runtime.checkpoint.stores.protocol import Listed, Storage
from runtime.errors import CheckpointError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was not taken.

    Attributes:
        name: its name, `checkpoint_<number>`.
        reason: what is wrong with it.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest undamaged checkpoint.

    Attributes:
        number: its number; None if there is none.
        skipped: the complete checkpoints with higher numbers, the newest first.
    """

    number: int | None
    skipped: tuple[Skipped, ...] = ()


def newest(numbers: Iterable[int], problem: Callable[[int], str | None]) -> Newest:
    """Return the newest checkpoint without a problem.

    Args:
        numbers: the numbers of complete checkpoints, in any order.
        problem: returns what is wrong with a checkpoint, or None; called for the newest first.
    """
    skipped: list[Skipped] = []
    for number in sorted(numbers, reverse=True):
        reason = problem(number)
        if reason is None:
            return Newest(number, tuple(skipped))
        skipped.append(Skipped(name_of(number), reason))
    return Newest(None, tuple(skipped))


class Store:
    """Numbered checkpoints in a place; one process writes, any number of processes read.

    Attributes:
        storage: the place.
        keep: the number of checkpoints to keep; None to keep all.
    """

    def __init__(self, storage: Storage, keep: int | None) -> None:
        """Take the checkpoints that are in a place.

        Args:
            storage: the place.
            keep: the number of checkpoints to keep; None to keep all.

        Raises:
            ValueError: `keep` is less than 1.
        """
        if keep is not None and keep < 1:
            sentence = f"the number of checkpoints to keep must be 1 or more, got {keep}"
            raise ValueError(sentence)
        self.storage = storage
        self.keep = keep
        self._lock = threading.Lock()
        self._written: set[int] = set()  # the numbers that this process is writing

    def newest(self, *, below: int | None = None, reads: bool = True) -> Newest:
        """Return the newest undamaged checkpoint, and why newer ones are not taken.

        Args:
            below: a number; only checkpoints with lower numbers are looked at. After `fetch` has
                found one to be damaged, this finds the next.
            reads: whether to compare checksums where this needs no copy.

        Raises:
            CheckpointError: the place cannot be listed or read.
        """
        numbers = (one for one in self.numbers() if below is None or one < below)
        return newest(numbers, lambda number: self.damage(number, reads=reads))

    def numbers(self) -> list[int]:
        """Return the numbers of the complete checkpoints, in order.

        Raises:
            CheckpointError: the place cannot be listed.
        """
        return _complete(self.storage.list())

    def manifest(self, number: int) -> dict[str, Any]:
        """Return the manifest of a checkpoint; empty if it has none, as in Accelerate.

        Raises:
            DamagedCheckpoint: the manifest cannot be used.
            CheckpointError: the place cannot be read.
        """
        return self.storage.manifest(number)

    def damage(self, number: int, *, reads: bool = True) -> str | None:
        """Return what is wrong with a checkpoint; None if nothing is.

        Args:
            number: the number of the checkpoint.
            reads: whether to compare checksums where this needs no copy.

        Raises:
            CheckpointError: the place cannot be read.
        """
        return self.storage.damage(number, reads=reads)

    def next_number(self) -> int:
        """Return the lowest number that is higher than all listed ones, incomplete ones too."""
        return max((one.number for one in self.storage.list()), default=-1) + 1

    def fetch(self, number: int, into: Path) -> Path:
        """Return a local directory with a checkpoint, which `load_state` can read.

        Args:
            number: the number of the checkpoint.
            into: a local directory for a copy. It is not used if the place is a directory.

        Raises:
            DamagedCheckpoint: the files do not match the manifest; an older checkpoint may do.
            CheckpointError: the place or the local directory cannot be used.
        """
        return self.storage.read(number, into)

    def stage(self, number: int) -> Path:
        """Return the directory that `save_state` writes a checkpoint to, to be published.

        Only the process that publishes may call this.
        """
        return self.storage.stage(number)

    def publish(self, folder: Path, number: int) -> None:
        """Write a checkpoint to the place. It is complete afterwards; until then it is absent.

        It may be called in a thread, one at a time.

        Args:
            folder: a local directory with the complete checkpoint, which may be that of `stage`.
            number: the number of the checkpoint.

        Raises:
            CheckpointError: the checkpoint could not be written, or would replace the only
                undamaged checkpoint; older checkpoints are unchanged.
        """
        with self._writing(number):
            self._must_leave_one(number)
            self.storage.write(number, folder)
            self.storage.commit(number, folder)

    def retain(
        self, kept: Collection[int] | None = None, *, among: Collection[int] | None = None
    ) -> list[str]:
        """Remove the oldest checkpoints beyond `keep`, and what dead writers have left.

        Nothing is removed unless one of the kept checkpoints is undamaged in names and sizes.
        Incomplete checkpoints are removed if they are older than that one.

        Args:
            kept: the numbers of the checkpoints to keep; by default the newest `keep` ones.
            among: the numbers of those that may be removed or kept; all others are foreign.

        Returns:
            The names of the removed checkpoints.

        Raises:
            CheckpointError: the place cannot be listed, or a checkpoint cannot be removed.
        """
        listed = self.storage.list()
        complete = [one for one in _complete(listed) if among is None or one in among]
        if kept is None:
            kept = complete if self.keep is None else complete[-self.keep :]
        # The newest first: it has been written a moment ago, so it most likely ends the search.
        whole = (one for one in reversed(complete) if one in kept and self._is_whole(one))
        newest_kept = next(whole, None)
        if newest_kept is None:
            return []
        surplus = set(complete) - set(kept)
        with self._lock:
            written = set(self._written)
        left = [one.number for one in listed if not one.is_complete and one.number < newest_kept]
        removed = sorted({*surplus, *left} - written)
        for number in removed:
            self.storage.remove(number)
        return [name_of(number) for number in removed]

    @contextmanager
    def _writing(self, number: int) -> Iterator[None]:
        with self._lock:
            self._written.add(number)
        try:
            yield
        finally:
            with self._lock:
                self._written.discard(number)

    def _must_leave_one(self, number: int) -> None:
        """Check that an undamaged checkpoint is left while one of the same number is replaced.

        Raises:
            CheckpointError: the checkpoint of this number is the only undamaged one.
        """
        complete = [] if self.storage.replaces else _complete(self.storage.list())
        if number not in complete or not self._is_whole(number):
            return
        if not any(self._is_whole(one) for one in reversed(complete) if one != number):
            sentence = (
                f"{name_of(number)} is the only undamaged checkpoint in {self.storage.name}, and "
                "would be absent while it is replaced; publish under another number"
            )
            raise CheckpointError(sentence)

    def _is_whole(self, number: int) -> bool:
        return self.storage.damage(number, reads=False) is None


def _complete(listed: list[Listed]) -> list[int]:
    return sorted(one.number for one in listed if one.is_complete)
