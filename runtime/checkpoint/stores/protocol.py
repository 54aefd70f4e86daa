"""The operations that a place for checkpoints must have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A checkpoint in a listing.

    Attributes:
        number: the number in its name, `checkpoint_<number>`.
        is_complete: whether it was committed; otherwise it is being written, or its writer died.

    Raises:
        ValueError: the number is negative.
    """

    number: int
    is_complete: bool

    def __post_init__(self) -> None:
        """Check the number."""
        if self.number < 0:
            sentence = f"the number of a checkpoint must be 0 or more, got {self.number}"
            raise ValueError(sentence)


class Storage(Protocol):
    """A place with numbered checkpoints, each of which is complete or absent.

    These operations are all that differs between places. There is no rename and no link, because
    object stores have none: `commit` makes a checkpoint visible in the way of the place. There is
    no append and no lock: a checkpoint never changes once it is complete, and a single process
    writes. Times are for people, and decide nothing. Which checkpoint is taken or removed is
    decided above, in `Store`, from the list alone, so each place has the same rules.

    A listing may be stale. Therefore nothing relies on a checkpoint that is only listed: `damage`
    and `read` look at the checkpoint itself.

    Attributes:
        name: the path or URL of the place, for messages.
        replaces: whether `commit` replaces a complete checkpoint of the same number at once;
            otherwise there is none of that number between `write` and `commit`.
    """

    name: str
    replaces: bool

    def stage(self, number: int) -> Path:
        """Return the local directory that a checkpoint is saved to before it is published."""
        ...

    def list(self) -> list[Listed]:
        """Return the checkpoints, in the order of their numbers; foreign files are excluded."""
        ...

    def damage(self, number: int, *, reads: bool) -> str | None:
        """Return what is wrong with a checkpoint; None if it matches its manifest.

        Args:
            number: the number of the checkpoint.
            reads: whether to compare checksums, if the place can do so without a copy; otherwise
                only names and sizes are compared.
        """
        ...

    def manifest(self, number: int) -> dict[str, Any]:
        """Return the manifest of a checkpoint; empty if it has none, as in Accelerate.

        Raises:
            DamagedCheckpoint: the manifest cannot be used.
            CheckpointError: the place cannot be read.
        """
        ...

    def written(self, number: int) -> float | None:
        """Return when a checkpoint was complete, in seconds since the epoch; None if unknown."""
        ...

    def read(self, number: int, into: Path) -> Path:
        """Return a local directory with the checkpoint.

        Args:
            number: the number of the checkpoint.
            into: a directory for a copy, if the place itself cannot be loaded from.

        Raises:
            DamagedCheckpoint: the files do not match the manifest.
            CheckpointError: the place or the local directory cannot be used.
        """
        ...

    def write(self, number: int, folder: Path) -> None:
        """Write the files of a checkpoint, but do not make it visible.

        Args:
            number: the number of the checkpoint.
            folder: a local directory with the complete checkpoint.
        """
        ...

    def commit(self, number: int, folder: Path) -> None:
        """Make a checkpoint visible whose files were written. It is complete, or absent."""
        ...

    def remove(self, number: int) -> None:
        """Remove a checkpoint; if the process dies meanwhile, the checkpoint is incomplete."""
        ...
