"""Which positions of an epoch belong to which rank: arithmetic alone, without torch.

One formula gives what Accelerate 1.15's BatchSamplerShard finds by going through all batches of
all ranks. A rank computes its own positions and no others, so its cost does not grow with the
world. Position p of an epoch of n samples stands for sample p % n: past the end it wraps around.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the batches of an epoch are dealt to the ranks.

    Raises:
        ValueError: a batch cannot be split evenly.
    """

    batch_size: int  # of the script's own data loader, >= 1
    world_size: int
    rank: int
    split: bool = False  # each batch is divided among the ranks, rather than given to one
    even: bool = True  # the last global batch is filled by wrapping around
    drop_last: bool = False  # what is not a whole batch is left out

    def __post_init__(self) -> None:
        """Check that a batch can be split."""
        if self.split and self.batch_size % self.world_size:
            sentence = (
                f"with split_batches the batch size must be a multiple of the number of processes, "
                f"got {self.batch_size} and {self.world_size}"
            )
            raise ValueError(sentence)

    @property
    def global_batch(self) -> int:
        """Samples of all ranks in one step."""
        return self.batch_size if self.split else self.batch_size * self.world_size

    @property
    def own_batch(self) -> int:
        """Samples of this rank in one full step."""
        return self.global_batch // self.world_size


def spans(n: int, layout: Layout) -> Iterator[range]:
    """The positions of this rank's batches, in order, for an epoch of `n` samples.

    Each range is consecutive; it may reach past n, where the samples wrap around.
    """
    whole, tail = divmod(n, layout.global_batch)
    for step in range(whole):
        yield _span(step, layout)
    last = _span(whole, layout)
    if not tail or layout.drop_last:
        return
    if layout.even:
        yield last
    elif last.start < n:
        yield range(last.start, min(last.stop, n))


def _span(step: int, layout: Layout) -> range:
    start = step * layout.global_batch + layout.rank * layout.own_batch
    return range(start, start + layout.own_batch)


def count(n: int, layout: Layout) -> int:
    """How many batches `spans` gives: O(1)."""
    whole, tail = divmod(n, layout.global_batch)
    if not tail or layout.drop_last:
        return whole
    return whole + (layout.even or _span(whole, layout).start < n)


def remainder(n: int, layout: Layout) -> int:
    """Real samples in the last global batch if it is not a whole one; 0 if all are whole."""
    return 0 if layout.drop_last else n % layout.global_batch
