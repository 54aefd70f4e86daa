"""How long the training will be, as far as it can be known."""

from collections.abc import Callable
from typing import Any

Tell = Callable[[int | None, int | None, int | None], None]


def _nothing(epochs: int | None, steps_per_epoch: int | None, first_step: int | None) -> None:
    """Tell nobody."""


class Outlook:
    """Tells how long the training will be, as soon as it can be known.

    The steps of an epoch are estimated by the length of the data loader of the first step, and
    counted when an epoch was complete.

    Attributes:
        tell: called with the number of epochs, of steps in an epoch, and of the completed steps
            when this process began to train, when they change.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.tell: Tell = _nothing
        self._epochs: int | None = None
        self._steps_per_epoch: int | None = None
        self._first_step: int | None = None
        self._steps_before: int | None = None  # at the beginning of a whole epoch

    def begin(self, epochs: int, steps: int) -> None:
        """Note that a call of `epochs` begins; its first epoch may be a rest.

        Args:
            epochs: its number of epochs.
            steps: the number of completed steps.
        """
        self._first_step = steps if self._first_step is None else self._first_step
        self._epochs, self._steps_per_epoch, self._steps_before = epochs, None, None
        self._changed()

    def step(self, loader: Any, accumulated: int) -> None:
        """Note that a step is complete.

        Args:
            loader: the data loader of its batch.
            accumulated: the number of batches for each step.
        """
        if self._steps_per_epoch is not None:
            return
        try:
            batches = len(loader.origin)
        except TypeError:  # the dataset has no length
            return
        self._steps_per_epoch = -(-batches // accumulated)
        self._changed()

    def end_epoch(self, steps: int) -> None:
        """Note that an epoch has ended.

        Args:
            steps: the number of completed steps.
        """
        before, self._steps_before = self._steps_before, steps
        if before is not None and steps - before != self._steps_per_epoch:
            self._steps_per_epoch = steps - before
            self._changed()

    def _changed(self) -> None:
        self.tell(self._epochs, self._steps_per_epoch, self._first_step)
