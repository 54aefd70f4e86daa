"""An optimizer that steps only at the end of a gradient accumulation."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from runtime.collectives.nested import send_to_device
from runtime.world.gradient_state import GradientState
from runtime.world.steps import Gradients

_SAMPLE = 8  # parameters whose gradients tell whether something was added to them


class AcceleratedOptimizer(Optimizer):
    """An optimizer wrapper whose `step` and `zero_grad` do nothing while gradients are accumulated.

    It is an Optimizer because schedulers require one. Its state is that of the wrapped optimizer.

    Attributes:
        optimizer: the wrapped optimizer.
        scaler: the gradient scaler; None unless the precision is `fp16`.
        gradient_state: the state that says whether gradients are accumulated.
        device_placement: whether the optimizer's state was moved to its parameters' devices.
        gradients: whether gradients wait for the next step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        device_placement: bool = True,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Wrap an optimizer.

        Args:
            optimizer: the script's optimizer.
            device_placement: whether to move the optimizer's existing state to the devices of its
                parameters.
            scaler: the gradient scaler; None unless the precision is `fp16`.
        """
        self.optimizer = optimizer
        self.scaler = scaler
        self.gradient_state = GradientState()
        self.device_placement = device_placement
        self.gradients = Gradients()
        self._sampled: list[torch.Tensor] = []
        self._sampled_groups = 0  # the number of parameter groups that `_sampled` is of
        self._is_overflow = False  # Accelerate's name
        if device_placement:
            for parameter, values in optimizer.state.items():
                optimizer.state[parameter] = send_to_device(values, parameter.device)

    @property
    def state(self) -> Any:
        """The wrapped optimizer's state."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    @property
    def param_groups(self) -> Any:
        """The wrapped optimizer's parameter groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, param_groups: Any) -> None:
        self.optimizer.param_groups = param_groups

    @property
    def defaults(self) -> Any:
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    @defaults.setter
    def defaults(self, defaults: Any) -> None:
        self.optimizer.defaults = defaults

    @property
    def step_was_skipped(self) -> bool:
        """Whether the last step was skipped because a scaled gradient was not finite."""
        return self._is_overflow

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the wrapped optimizer."""
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the wrapped optimizer."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict into the wrapped optimizer."""
        self.optimizer.load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """Clear the gradients, unless they are being accumulated.

        Args:
            set_to_none: the argument of the wrapped optimizer; None uses its default.
        """
        if self.gradient_state.sync_gradients:
            if self.gradient_state.listener is not None:
                self.gradients.clear(self._sample, self.gradient_state.steps)
            self.gradient_state.window.clear(self.parameters())
            self.optimizer.zero_grad(
                **({} if set_to_none is None else {"set_to_none": set_to_none})
            )

    def parameters(self) -> Iterator[torch.Tensor]:
        """Return all parameters that are optimized."""
        return (parameter for group in self.param_groups for parameter in group["params"])

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step the wrapped optimizer, unless gradients are being accumulated.

        Args:
            closure: computes the loss again, for optimizers that need it.

        Returns:
            The return value of the wrapped optimizer's step; None while gradients are accumulated.
        """
        if not self.gradient_state.sync_gradients:
            return None
        if self.gradient_state.copies is not None:
            self.gradient_state.hold_copies()
        window = self.gradient_state.window
        window.complete(self.parameters())
        result = self._step(closure)
        window.take_back(self.parameters())  # as in Accelerate after a step
        self.note_step()
        return result

    def note_step(self) -> None:
        """Note that the wrapped optimizer has stepped, with all gradients that exist."""
        self.gradient_state.steps.step(in_pass=self.gradient_state.in_pass)
        if self.gradient_state.listener is not None:
            found = self._sampled[0].grad if self._sampled else None
            if found is None:
                found = next(iter(self._sample() or self._sample(anew=True)), None)
            self.gradients.step(found)

    def note_backward(self) -> None:
        """Note that a backward pass begins, which may change the gradients of the last step."""
        self.gradients.read(self._sample)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        if self.scaler is None:
            return self.optimizer.step() if closure is None else self.optimizer.step(closure)
        result = self.scaler.step(self.optimizer, *([] if closure is None else [closure]))
        # Torch has no public way to ask whether this optimizer's gradients were finite. The scale
        # does not tell: it decreases if the gradients of any optimizer were not.
        found = self.scaler._found_inf_per_device(self.optimizer)  # noqa: SLF001
        self._is_overflow = any(bool(one) for one in found.values())
        self.scaler.update()
        return result

    def has_waiting_gradients(self) -> bool:
        """Whether gradients wait for the next step; called at a boundary. Waits for the device."""
        if not self.gradients.may_wait(self._sample, self.gradient_state.steps):
            return False
        found = (one.grad for one in self.parameters() if one.grad is not None)
        return any(bool(gradient.any()) for gradient in found)

    def _sample(self, *, anew: bool = False) -> list[torch.Tensor]:
        """Return the gradients of some parameters: looking at all would prolong each step.

        Args:
            anew: whether to choose other parameters, because those have no gradients any more.
        """
        groups = self.optimizer.param_groups
        if anew or len(groups) != self._sampled_groups:
            trained = [one for one in self.parameters() if one.requires_grad]
            parameters = [one for one in trained if one.grad is not None] or trained
            spread = range(_SAMPLE if parameters else 0)  # from the first to the last
            indices = {index * (len(parameters) - 1) // (_SAMPLE - 1) for index in spread}
            self._sampled = [parameters[index] for index in sorted(indices)]
            self._sampled_groups = len(groups)
        return [one.grad for one in self._sampled if one.grad is not None]

    def train(self) -> Any:
        """Switch a schedule-free optimizer to training mode."""
        return getattr(self.optimizer, "train", _nothing)()

    def eval(self) -> Any:
        """Switch a schedule-free optimizer to evaluation mode."""
        return getattr(self.optimizer, "eval", _nothing)()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _nothing() -> None:
    return None
