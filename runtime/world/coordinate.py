"""Which processes train on the same batches: everything that deals data asks here, not the rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Share = TypeVar("Share")


@dataclass(frozen=True, slots=True)
class DataCoordinate:
    """The place of a process among those that train on different batches.

    The processes of one data-parallel rank have consecutive ranks in the world, because the
    dimensions of a device mesh along which they lie are its innermost ones.

    Attributes:
        process_index: the rank of this process in the world.
        num_processes: the world size.
        span: the number of processes that train on each batch together, which divides the world
            size; 1 without tensor and context parallelism.

    Raises:
        ValueError: the span does not divide the world size.
    """

    process_index: int
    num_processes: int
    span: int = 1

    def __post_init__(self) -> None:
        """Check the span."""
        if self.span < 1 or self.num_processes % self.span:
            sentence = (
                f"the number of processes that share a batch must divide {self.num_processes}, "
                f"the world size, got {self.span}"
            )
            raise ValueError(sentence)

    @property
    def rank(self) -> int:
        """The index of this process' batches, in [0, size)."""
        return self.rank_of(self.process_index)

    @property
    def size(self) -> int:
        """The number of processes that train on different batches."""
        return self.num_processes // self.span

    def rank_of(self, process_index: int) -> int:
        """Return the index of the batches of another process.

        Args:
            process_index: its rank in the world.
        """
        return process_index // self.span

    def one_of_each(self, shares: Sequence[Share]) -> Sequence[Share]:
        """Return the shares of the first process of each data-parallel rank.

        >>> DataCoordinate(0, 4, 2).one_of_each(["a", "a", "b", "b"])
        ['a', 'b']

        Args:
            shares: one for each process of the world.
        """
        return shares[:: self.span]
