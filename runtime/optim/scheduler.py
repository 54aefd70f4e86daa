"""A learning rate scheduler that steps with its optimizers and accounts for the world size."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from runtime.optim.leaps import can_leap, leap
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.world.gradient_state import GradientState
from runtime.world.state import PartialState


class AcceleratedScheduler:
    """A scheduler wrapper that steps only if its optimizers have stepped.

    A script's schedule counts the batches of a single process. If each of W processes reads whole
    batches (`split_batches=False`), all processes together read W batches at a time. So the
    scheduler steps W times for each optimizer step, as in Accelerate. Where the result is the same,
    the W steps are computed at once.

    Attributes:
        scheduler: the wrapped scheduler.
        optimizers: the optimizers that the scheduler belongs to.
        step_with_optimizer: whether the scheduler steps only if the optimizers have stepped.
        split_batches: whether each batch of the script is divided among the processes.
        gradient_state: the state that says whether gradients are accumulated.
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
            scheduler: a scheduler of torch.optim.lr_scheduler, or with the same interface.
            optimizers: the optimizers that it belongs to.
            step_with_optimizer: whether it steps only if the optimizers have stepped; otherwise it
                steps once at each call.
            split_batches: whether each batch of the script is divided among the processes; the
                scheduler then steps once for each optimizer step.
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
        """Step if the optimizers have stepped: once, or once per process without `split_batches`.

        Args:
            *args: the arguments of the wrapped scheduler's step.
            **kwargs: the keyword arguments of the wrapped scheduler's step.
        """
        if not self.step_with_optimizer:
            self.scheduler.step(*args, **kwargs)
            return
        if not self.gradient_state.sync_gradients:
            if self.gradient_state.adjust_scheduler:
                self.scheduler._step_count += 1  # noqa: SLF001
            return
        if any(optimizer.step_was_skipped for optimizer in self.optimizers):
            return
        steps = 1 if self.split_batches else self._state.coordinate.size
        if steps > 1 and self._leaps and not args and not kwargs:
            steps -= leap(self.scheduler, steps - 1)
        for _ in range(steps):
            if not self._has_steps_left():
                break
            self.scheduler.step(*args, **kwargs)

    def _has_steps_left(self) -> bool:
        """Whether the scheduler may step: OneCycleLR raises an error after its last step."""
        total = getattr(self.scheduler, "total_steps", None)
        return total is None or self.scheduler._step_count <= total  # noqa: SLF001  # not public

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the wrapped scheduler."""
        state: dict[str, Any] = self.scheduler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict into the wrapped scheduler."""
        self.scheduler.load_state_dict(state_dict)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the wrapped scheduler, for example `get_last_lr`."""
        if name == "scheduler":
            raise AttributeError(name)
        return getattr(self.scheduler, name)
