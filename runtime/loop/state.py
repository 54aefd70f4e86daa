"""Where a loop is in its script; saved with each automatic checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runtime.control.lines import LARGEST
from runtime.loop.reading import Reading

FACT = "loop"  # the entry of a checkpoint's manifest
_NUMBERS = ("call", "epoch", "epochs", "begun", "step", "samples")
_MOST = 2**16  # passes of an epoch

Name = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """Where a loop is in its script.

    Attributes:
        call: the number of the call of `Accelerator.epochs`, from 0.
        epoch: the epoch of that call to go on with, from 0; the total if all are done.
        epochs: the total of that call.
        begun: the number of epochs that all calls have begun.
        step: the number of completed optimizer steps.
        samples: the number of samples of all ranks that were trained on.
        passes: the training passes of this epoch that were complete: the index of a prepared data
            loader, and the number of the pass over it in this epoch.
        current: the pass that goes on; None if the checkpoint was taken between two epochs.
        loaders: what each prepared data loader reads; empty if that was not recorded.

    Raises:
        ValueError: a number is negative or too large.
    """

    call: int = 0
    epoch: int = 0
    epochs: int = 0
    begun: int = 0
    step: int = 0
    samples: int = 0
    passes: tuple[Name, ...] = ()
    current: Name | None = None
    loaders: tuple[Reading, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in _NUMBERS:
            _check(name, getattr(self, name))
        if len(self.passes) > _MOST:
            sentence = f"passes must be at most {_MOST}, got {len(self.passes)}"
            raise ValueError(sentence)
        for pair in (*self.passes, *([] if self.current is None else [self.current])):
            if len(pair) != 2:  # noqa: PLR2004  # index and number
                sentence = f"a pass must be a pair of an index and a number, got {pair!r:.100}"
                raise ValueError(sentence)
            for number in pair:
                _check("a pass", number)

    @property
    def is_over(self) -> bool:
        """Whether the call of `epochs` has no epoch left."""
        return self.epoch >= self.epochs

    def fact(self) -> dict[str, Any]:
        """Return this state as JSON values."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        current = None if self.current is None else list(self.current)
        passes = [list(pair) for pair in self.passes]
        loaders = [one.fact() for one in self.loaders]
        return numbers | {"passes": passes, "current": current, "loaders": loaders}

    @classmethod
    def of(cls, fact: object) -> Self:
        """Return the state that `fact` has written.

        Args:
            fact: a value from the manifest of a checkpoint, which is not trusted.

        Raises:
            ValueError: the value is not that of a loop.
        """
        found = fact if isinstance(fact, Mapping) else {}
        passes, current = found.get("passes"), found.get("current")
        pairs = [*(passes if isinstance(passes, list) else [None]), current or []]
        if not all(isinstance(pair, list) for pair in pairs):
            sentence = f"the state of a loop must have passes, a list of pairs, got {fact!r:.200}"
            raise ValueError(sentence)
        numbers: dict[str, Any] = {name: found.get(name) for name in _NUMBERS}
        last: Any = None if current is None else tuple(current)
        loaders = found.get("loaders")
        return cls(
            passes=tuple(tuple(pair) for pair in passes or ()),
            current=last,
            loaders=tuple(Reading.of(one) for one in loaders) if isinstance(loaders, list) else (),
            **numbers,
        )


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        sentence = f"{name} must be a whole number from 0 to 2^53 - 1, got {value!r:.100}"
        raise ValueError(sentence)
