"""Divides a script's inputs among the processes."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset

from runtime.world.mappings import remade


@dataclass(frozen=True, slots=True)
class Share:
    """The inputs of one process: those from `start` to `stop`, then the last input repeatedly.

    Attributes:
        start: the index of the first input.
        stop: the index after the last input.
        repeats: how often the last of all inputs is appended.
        total: the number of inputs of all processes.
    """

    start: int
    stop: int
    repeats: int
    total: int

    @classmethod
    def of(cls, total: int, rank: int, world_size: int, *, padded: bool) -> "Share":
        """Return the share of a rank; the first ranks have one more if the total is uneven.

        Args:
            total: the number of inputs of all processes.
            rank: the rank of the process.
            world_size: the number of processes.
            padded: whether the last input is repeated, so that all shares have one length.
        """
        each, more = divmod(total, world_size)
        start = rank * each + min(rank, more)
        stop = start + each + (rank < more)
        return cls(start, stop, each + (more > 0) - (stop - start) if padded else 0, total)

    @property
    def indices(self) -> list[int]:
        """The indices of the inputs."""
        return [*range(self.start, self.stop), *[self.total - 1] * self.repeats]


def check_lengths(inputs: Mapping[Any, Any]) -> None:
    """Check that all values of a mapping have the same length.

    Raises:
        ValueError: the lengths differ.
    """
    if len({len(value) for value in inputs.values()}) > 1:
        sentence = "All values in the dictionary must have the same length"
        raise ValueError(sentence)


def split(inputs: Any, rank: int, world_size: int, *, padded: bool) -> Any:
    """Return a process' share of inputs that are the same on all processes.

    A string is one input: all processes get all of it.

    Args:
        inputs: a list, tuple, tensor, array or dataset, or a mapping of these.
        rank: the rank of the process.
        world_size: the number of processes.
        padded: whether the last input is repeated, so that all shares have one length.

    Raises:
        ValueError: the values of a mapping differ in length.
        TypeError: the inputs have no order or no length.
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
    """Take a slice, which need not copy; index only if an input is repeated."""
    return inputs[share.indices] if share.repeats else inputs[share.start : share.stop]


def _items(inputs: Any, share: Share) -> Any:
    """Take a slice, which keeps the type of the sequence; a list if an input is repeated."""
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
    # A pandas object, whose [] looks up labels instead of positions.
    (lambda inputs: hasattr(inputs, "iloc"), lambda inputs, share: inputs.iloc[share.indices]),
    # Tensors and arrays.
    (lambda inputs: hasattr(inputs, "__array__"), _rows),
    # A Hugging Face dataset, whose slices are dicts of columns.
    (lambda inputs: hasattr(inputs, "select"), lambda inputs, share: inputs.select(share.indices)),
    (lambda _: True, lambda inputs, share: Subset(inputs, share.indices)),
)
