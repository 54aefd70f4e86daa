"""The position of a data loader in an epoch, as a checkpoint contains it."""

from dataclasses import dataclass
from typing import Any

import torch

_COUNTS = {"epoch": "epoch", "position": "samples"}  # key in a checkpoint -> field


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A position between two batches of an epoch.

    It counts the samples of all processes, so it is valid for any number of processes. A field is
    None if it was not recorded.

    Attributes:
        epoch: the number of the epoch, >= 0.
        samples: the number of samples of all processes before this position, >= 0.
        generators: the states of the loader's random generators at the beginning of the pass; at
            the beginning of an epoch, their current states.
        order: the generator state that the order was drawn from.
        drawn_from: the states of the default generators before an unknown order was drawn.
        is_seeded: whether the seed of the workers has been drawn in this pass or an earlier one.
        workers: the generator state from which the seed of the workers was drawn.
        workers_live: whether that seed was drawn in an earlier pass and persistent workers keep it.
        dataset: how far an iterable dataset was read, as `Progress.state_dict()`.

    Raises:
        ValueError: the epoch or the number of samples is not a whole number >= 0.
    """

    epoch: int = 0
    samples: int = 0
    generators: dict[str, Any] | None = None
    order: torch.Tensor | None = None
    drawn_from: dict[str, Any] | None = None
    is_seeded: bool = False
    workers: torch.Tensor | None = None
    workers_live: bool = False
    dataset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for key, field in _COUNTS.items():
            number = getattr(self, field)
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                sentence = (
                    f"{key!r} of a data loader's state must be a whole number >= 0, got {number!r}"
                )
                raise ValueError(sentence)

    @classmethod
    def of(cls, state_dict: dict[str, Any]) -> "Position":
        """Return the position that a state dict contains.

        Args:
            state_dict: a return value of `state_dict`.

        Raises:
            ValueError: the epoch or the position is missing, or is not a whole number >= 0.
        """
        missing = _COUNTS.keys() - state_dict.keys()
        if missing:
            sentence = (
                f"the state of a data loader must have {' and '.join(map(repr, sorted(_COUNTS)))}, "
                f"got only {sorted(state_dict)}: is it the state of another object?"
            )
            raise ValueError(sentence)
        return cls(
            epoch=state_dict["epoch"],
            samples=state_dict["position"],
            generators=state_dict.get("generators"),
            order=state_dict.get("order"),
            drawn_from=state_dict.get("drawn_from"),
            is_seeded="workers" in state_dict,
            workers=state_dict.get("workers"),
            workers_live=bool(state_dict.get("workers_live")),
            dataset=state_dict.get("dataset"),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position as a dict of plain values and tensors."""
        state: dict[str, Any] = {"epoch": self.epoch, "position": self.samples}
        if self.generators is not None:
            state["generators"] = self.generators
        if self.is_seeded:
            state |= {"workers": self.workers, "workers_live": self.workers_live}
        if self.samples:
            state |= {"order": self.order, "drawn_from": self.drawn_from}
        if self.dataset is not None:
            state["dataset"] = self.dataset
        return state
