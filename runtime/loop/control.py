"""How a loop learns that it must stop or save: the interface, and a process that is alone."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from runtime.control.agreement.messages import Action
from runtime.control.progress.snapshot import Tier


class Control(Protocol):
    """How a loop learns that it must stop or save; `runtime.control.agent.Agent` is one.

    Attributes:
        mark: the completed steps and begun epochs at the last boundary; the main thread writes
            them before it tests `is_raised`.
        is_raised: whether the loop must call `at_boundary`.
    """

    mark: tuple[int, int]
    is_raised: bool

    def notice(self, deadline: float, why: str) -> None:
        """Ask all ranks to stop. May be called by any thread.

        Args:
            deadline: the monotonic time at which this process is killed.
            why: the cause, for the log.
        """

    def wish_to_save(self) -> None:
        """Ask all ranks to save; on rank 0 only."""

    def at_boundary(self, *, is_clean: Callable[[], bool]) -> Action | None:
        """Return what all ranks do at this boundary; None: nothing. May wait for other ranks.

        Args:
            is_clean: whether a checkpoint of this boundary loses nothing.
        """

    def saved(self) -> None:
        """Note that this rank has done its part of an agreed save."""

    def checkpointed(self, step: int, seconds: float, tier: Tier = Tier.STORAGE) -> None:
        """Note that a checkpoint is complete. May be called by any thread; on rank 0 only.

        Args:
            step: the step of the checkpoint.
            seconds: the time from its beginning until it was complete.
            tier: where it lies.
        """

    def plan(
        self, epochs: int | None, steps_per_epoch: int | None, first_step: int | None = None
    ) -> None:
        """Note from where to where the training is, as far as known; on rank 0 only.

        Args:
            epochs: the number of epochs.
            steps_per_epoch: the number of optimizer steps in an epoch.
            first_step: the number of completed steps when this process began to train.
        """

    def digested(self, step: int, digests: Mapping[str, int]) -> None:
        """Compare the digests of this rank's tensors with those of the others.

        Args:
            step: the number of completed optimizer steps.
            digests: the name of a tensor -> its digest.
        """

    def seconds_left(self) -> float:
        """Return the time until this process is killed; infinity if nothing has asked to stop."""

    def close(self) -> None:
        """Take part in nothing any more."""


class Alone:
    """The control of a world of one process: every clean boundary will do."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.mark = (0, 0)
        self.is_raised = False
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._save_seconds = 0.0

    def notice(self, deadline: float, why: str) -> None:  # noqa: ARG002  # nobody else is told
        """Ask to stop; the earliest deadline counts."""
        with self._lock:
            self._deadline = min(self._deadline, deadline)
            self.is_raised = True

    def wish_to_save(self) -> None:
        """Ask to save."""
        self.is_raised = True

    def at_boundary(self, *, is_clean: Callable[[], bool]) -> Action | None:
        """Return what to do at this boundary; None: nothing."""
        if self.seconds_left() <= self._save_seconds:
            return Action.LEAVE
        if not is_clean():
            return None
        with self._lock:
            self.is_raised = not math.isinf(self._deadline)
            return Action.STOP if self.is_raised else Action.SAVE

    def saved(self) -> None:
        """Do nothing: nobody waits for it."""

    def checkpointed(self, step: int, seconds: float, tier: Tier = Tier.STORAGE) -> None:  # noqa: ARG002  # nobody else is told
        """Note how long a checkpoint on storage takes."""
        if tier is Tier.STORAGE:
            self._save_seconds = seconds

    def plan(
        self, epochs: int | None, steps_per_epoch: int | None, first_step: int | None = None
    ) -> None:
        """Do nothing: nobody asks."""

    def digested(self, step: int, digests: Mapping[str, int]) -> None:
        """Do nothing: there is nobody to differ from."""

    def seconds_left(self) -> float:
        """Return the time until this process is killed; infinity if nothing has asked to stop."""
        return max(0.0, self._deadline - time.monotonic())

    def close(self) -> None:
        """Do nothing: there is no connection."""
