"""An optimizer that steps only when an accumulation ends."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from runtime.state import GradientState


class AcceleratedOptimizer(Optimizer):
    """Wraps an optimizer: between the batches of an accumulation `step` and `zero_grad` do nothing.

    It is an Optimizer so that schedulers take it; its state is the wrapped one's.
    """

    def __init__(self, optimizer: Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
        """Args: optimizer: the wrapped one; scaler: of gradients, with fp16."""
        self.optimizer = optimizer
        self.scaler = scaler
        self.gradient_state = GradientState()
        self._step_was_skipped = False

    @property
    def state(self) -> Any:  # type: ignore[override]  # an attribute there
        """The wrapped optimizer's state."""
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:  # type: ignore[override]  # an attribute there
        """The wrapped optimizer's parameter groups."""
        return self.optimizer.param_groups

    @property
    def defaults(self) -> Any:  # type: ignore[override]  # an attribute there
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    @property
    def step_was_skipped(self) -> bool:
        """Whether the last step was left out because a scaled gradient was not finite."""
        return self._step_was_skipped

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the wrapped optimizer."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load into the wrapped optimizer."""
        self.optimizer.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, unless they are being accumulated."""
        if self.gradient_state.sync_gradients:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step, unless gradients are being accumulated."""
        if not self.gradient_state.sync_gradients:
            return None
        if self.scaler is None:
            return self.optimizer.step() if closure is None else self.optimizer.step(closure)
        before = self.scaler.get_scale()
        result = self.scaler.step(self.optimizer, *([] if closure is None else [closure]))
        self.scaler.update()
        # The scale falls if, and only if, a gradient was not finite (torch.amp.GradScaler).
        self._step_was_skipped = self.scaler.get_scale() < before
        return result

    def train(self) -> Any:
        """Switch a schedule-free optimizer to training."""
        return getattr(self.optimizer, "train", _nothing)()

    def eval(self) -> Any:
        """Switch a schedule-free optimizer to evaluation."""
        return getattr(self.optimizer, "eval", _nothing)()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _nothing() -> None:
    return None
