"""Dividing a script's inputs among processes, each process its own share."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset

from runtime.world.mappings import remade


@dataclass(frozen=True, slots=True)
class Share:
    """Which inputs a process has: `start` to `stop`, and then the last one of all again."""

    start: int
    stop: int
    repeats: int
    total: int

    @classmethod
    def of(cls, total: int, rank: int, world_size: int, *, padded: bool) -> "Share":
        """An even share of `total` inputs; the first processes have one more."""
        each, more = divmod(total, world_size)
        start = rank * each + min(rank, more)
        stop = start + each + (rank < more)
        return cls(start, stop, each + (more > 0) - (stop - start) if padded else 0, total)

    @property
    def indices(self) -> list[int]:
        """One by one."""
        return [*range(self.start, self.stop), *[self.total - 1] * self.repeats]


def check_lengths(inputs: Mapping[Any, Any]) -> None:
    """Check that all values of a mapping can be divided alike.

    Raises:
        ValueError: they differ in length.
    """
    if len({len(value) for value in inputs.values()}) > 1:
        sentence = "All values in the dictionary must have the same length"
        raise ValueError(sentence)


def split(inputs: Any, rank: int, world_size: int, *, padded: bool) -> Any:
    """One process' share of inputs that all processes have alike.

    A text is one input, not many: all processes have it whole.

    Raises:
        TypeError: inputs that have no order, or no length.
    """
    if isinstance(inputs, str | bytes):
        return inputs
    if isinstance(inputs, Mapping):
        check_lengths(inputs)
        shares = {k: split(v, rank, world_size, padded=padded) for k, v in inputs.items()}
        return remade(inputs, shares)
    if not (hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")):
        sentence = (
            f"split_between_processes takes a list, tuple, mapping, tensor, array or dataset: "
            f"something with a length and an order, got {type(inputs).__name__}"
        )
        raise TypeError(sentence)
    return _taken(inputs, Share.of(len(inputs), rank, world_size, padded=padded))


def _taken(inputs: Any, share: Share) -> Any:
    return next(take(inputs, share) for is_kind, take in _KINDS if is_kind(inputs))


def _rows(inputs: Any, share: Share) -> Any:
    """By a slice, which need not copy; by number if an input comes again."""
    return inputs[share.indices] if share.repeats else inputs[share.start : share.stop]


def _items(inputs: Any, share: Share) -> Any:
    """By a slice, which keeps the kind; one by one if an input comes again."""
    if share.repeats:
        return [inputs[index] for index in share.indices]
    return inputs[share.start : share.stop]


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Share], Any]], ...] = (
    (
        lambda inputs: isinstance(inputs, tuple),
        lambda inputs, share: inputs[share.start : share.stop] + inputs[-1:] * share.repeats,
    ),
    (
        lambda inputs: isinstance(inputs, deque),
        lambda inputs, share: deque([inputs[index] for index in share.indices], inputs.maxlen),
    ),
    (lambda inputs: isinstance(inputs, Sequence), _items),
    # A table of pandas, which looks other things up by label.
    (lambda inputs: hasattr(inputs, "iloc"), lambda inputs, share: inputs.iloc[share.indices]),
    # Tensors and arrays, which add and multiply numbers.
    (lambda inputs: hasattr(inputs, "__array__"), _rows),
    # A dataset of Hugging Face's, which slices into columns.
    (lambda inputs: hasattr(inputs, "select"), lambda inputs, share: inputs.select(share.indices)),
    (lambda _: True, lambda inputs, share: Subset(inputs, share.indices)),
)
