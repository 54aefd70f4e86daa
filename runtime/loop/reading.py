"""What a data loader reads, as a checkpoint within an epoch has noted it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runtime.control.lines import LARGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a data loader reads, as far as the samples behind a position depend on it.

    A field is None if it is not known.

    Attributes:
        length: the number of samples of the dataset, >= 0; None for a stream.
        global_batch: the number of samples of all ranks in a step, >= 1.
        drop_last: whether an incomplete last batch is dropped.
    """

    length: int | None = None
    global_batch: int | None = None
    drop_last: bool | None = None

    @classmethod
    def by(cls, loader: Any) -> Self:
        """Return what a prepared data loader reads."""
        try:
            length = int(loader.total_dataset_length)
        except (TypeError, NotImplementedError):  # what `len` of a stream raises
            length = None
        drop_last = loader.drops_last
        return cls(length=length, global_batch=loader.total_batch_size, drop_last=drop_last)

    def fact(self) -> dict[str, Any]:
        """Return this as JSON values."""
        values = {"length": self.length, "global_batch": self.global_batch}
        return values | {"drop_last": self.drop_last}

    @classmethod
    def of(cls, fact: object) -> Self:
        """Return what `fact` has written; what is missing or of another type is not known.

        Args:
            fact: a value from the manifest of a checkpoint, which is not trusted.
        """
        found = fact if isinstance(fact, Mapping) else {}
        drop_last = found.get("drop_last")
        return cls(
            length=_number(found.get("length")),
            global_batch=_number(found.get("global_batch")),
            drop_last=drop_last if isinstance(drop_last, bool) else None,
        )


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST:
        return value
    return None
