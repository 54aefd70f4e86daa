"""A learning rate scheduler that follows its optimizer and the size of the world."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from runtime.optim.leaps import can_leap, leap
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.world.gradient_state import GradientState
from runtime.world.state import PartialState


class AcceleratedScheduler:
    """Wraps a scheduler: it steps when its optimizers have.

    A schedule is written for the steps of one process. Where each process takes a whole batch of
    the script, W processes go W batches a step, and so does the schedule. Same rule as Accelerate;
    where it comes to the same, W steps are one.
    """

    def __init__(
        self,
        scheduler: Any,
        optimizers: AcceleratedOptimizer | Sequence[AcceleratedOptimizer],
        step_with_optimizer: bool = True,
        split_batches: bool = False,
    ) -> None:
        """Wrap a scheduler.

        Args:
            scheduler: of torch.optim.lr_scheduler, or alike.
            optimizers: those that it goes with.
            step_with_optimizer: False steps it at each call, whatever the optimizers do.
            split_batches: a step of all processes is one batch of the script.
        """
        self.scheduler = scheduler
        self.optimizers = optimizers if isinstance(optimizers, Sequence) else [optimizers]
        self.step_with_optimizer = step_with_optimizer
        self.split_batches = split_batches
        self.gradient_state = GradientState()
        self._leaps = can_leap(scheduler)

    @cached_property
    def _state(self) -> PartialState:
        return PartialState()

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Step if the optimizers have, as often as batches were consumed."""
        if not self.step_with_optimizer:
            self.scheduler.step(*args, **kwargs)
            return
        if not self.gradient_state.sync_gradients:
            if self.gradient_state.adjust_scheduler:
                self.scheduler._step_count += 1  # noqa: SLF001
            return
        if any(optimizer.step_was_skipped for optimizer in self.optimizers):
            return
        steps = 1 if self.split_batches else self._state.num_processes
        if steps > 1 and self._leaps and not args and not kwargs:
            steps -= leap(self.scheduler, steps - 1)
        for _ in range(steps):
            if not self._has_steps_left():
                break
            self.scheduler.step(*args, **kwargs)

    def _has_steps_left(self) -> bool:
        """OneCycleLR refuses to go past its end, which an uneven last step would."""
        total = getattr(self.scheduler, "total_steps", None)
        return total is None or self.scheduler._step_count <= total  # noqa: SLF001  # torch has no other

    def state_dict(self) -> dict[str, Any]:
        """The wrapped scheduler's."""
        state: dict[str, Any] = self.scheduler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load into the wrapped scheduler."""
        self.scheduler.load_state_dict(state_dict)

    def __getattr__(self, name: str) -> Any:
        """`get_last_lr` and all else is the wrapped scheduler's."""
        if name == "scheduler":
            raise AttributeError(name)
        return getattr(self.scheduler, name)
