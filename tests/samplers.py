"""Batch samplers of kinds that scripts bring along."""

from collections.abc import Iterator, Sequence

from torch.utils.data import BatchSampler


class OwnKind(BatchSampler):
    """A batch sampler of a script's own class."""


class Lengths:
    """Batches of these lengths, of the numbers from 0; may name another batch size."""

    def __init__(self, lengths: Sequence[int], named: int | None = None) -> None:
        self.lengths = lengths
        if named is not None:
            self.batch_size = named

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[list[int]]:
        numbers = iter(range(sum(self.lengths)))
        return ([next(numbers) for _ in range(length)] for length in self.lengths)
