"""Checkpoints in a directory of a file system: each is a directory that appears by a rename."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.checkpoint import atomic, manifest
from runtime.checkpoint.stores.protocol import Listed
from runtime.errors import CheckpointError, DamagedCheckpoint


class Volume:
    """The directory that has the checkpoints, such as a volume that all pods mount.

    `save_state` writes to it directly, so that a checkpoint is in its place already when it is
    published. A checkpoint of another directory, such as one in memory, is copied.

    Attributes:
        name: the path of the directory.
        replaces: true; see `checkpoint.atomic`.
    """

    replaces = True

    def __init__(self, root: Path) -> None:
        """Take a directory, which need not exist."""
        self.name = str(root)
        self._root = root

    def stage(self, number: int) -> Path:
        """Return the final directory of a checkpoint."""
        return self._root / manifest.name_of(number)

    def list(self) -> list[Listed]:
        """Return the complete checkpoints, and what is left in `.unfinished`."""
        with self._used("list its checkpoints"):
            complete = {manifest.number(one) for one in manifest.checkpoints_in(self._root)}
            left = set(self._unfinished()) - complete
        found = [Listed(one, is_complete=True) for one in complete]
        found += [Listed(one, is_complete=False) for one in left]
        return sorted(found, key=lambda one: one.number)

    def _unfinished(self) -> Iterator[int]:
        box = atomic.unfinished(self.stage(0)).parent
        if box.is_dir() and not box.is_symlink():
            for one in box.iterdir():
                number = manifest.number_in(one.name)
                if number is not None and one.is_dir() and not one.is_symlink():
                    yield number

    def damage(self, number: int, *, reads: bool) -> str | None:
        """Return what is wrong with a checkpoint, after finishing an interrupted replacement."""
        target = self.stage(number)
        try:
            atomic.recover(target)
        except (OSError, ValueError) as error:
            return str(error)
        return manifest.damage(target, reads=reads)

    def manifest(self, number: int) -> dict[str, Any]:
        """Return the manifest of a checkpoint; empty if it has none."""
        try:
            return manifest.read(self.stage(number)) or {}
        except (OSError, ValueError) as error:
            raise DamagedCheckpoint(str(error)) from error

    def written(self, number: int) -> float | None:
        """Return when the manifest was written; None if there is none."""
        try:
            return (self.stage(number) / manifest.MANIFEST).stat().st_mtime
        except OSError:
            return None

    def read(self, number: int, into: Path) -> Path:  # noqa: ARG002  # the protocol's
        """Return the directory of a checkpoint itself, if its names and sizes are right."""
        problem = self.damage(number, reads=False)
        if problem is not None:
            raise DamagedCheckpoint(problem)
        return self.stage(number)

    def write(self, number: int, folder: Path) -> None:
        """Copy the files of a checkpoint to `.unfinished`, unless it is in its place already."""
        target = self.stage(number)
        if folder == target:
            return
        with self._used(f"write {target.name}"):
            problem = manifest.damage(folder, reads=False)
            if problem is not None:
                raise DamagedCheckpoint(problem)
            copy = atomic.begun(target)
            for name in (*sorted(manifest.listed(folder)), manifest.MANIFEST):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy / name)
                manifest.flush(copy / name)

    def commit(self, number: int, folder: Path) -> None:
        """Rename the checkpoint in `.unfinished` to its place, unless it is there already."""
        target = self.stage(number)
        if folder != target:
            with self._used(f"write {target.name}"):
                copy = atomic.unfinished(target)
                atomic.commit(copy, target, sorted(manifest.listed(copy)))

    def remove(self, number: int) -> None:
        """Move a checkpoint to `.unfinished`, and remove what is there."""
        target = self.stage(number)
        with self._used(f"remove {target.name}"):
            if target in manifest.checkpoints_in(self._root):
                atomic.removed(target)
            if number in self._unfinished():
                atomic.dropped(self._root / atomic.UNFINISHED / target.name)

    @contextmanager
    def _used(self, action: str) -> Iterator[None]:
        """Turn the errors of the file system, inside the context, into ones that say what to do.

        Raises:
            CheckpointError: the action has failed.
        """
        try:
            yield
        except (OSError, ValueError) as error:
            sentence = (
                f"cannot {action} in {self.name}: {error}; the directory must be on a volume with "
                "free space, and this process must be allowed to write there"
            )
            raise CheckpointError(sentence) from error
