"""Local SGD: each process trains alone, and weights are averaged every few steps."""

from types import TracebackType
from typing import Self

from torch import nn

from runtime.accelerator import Accelerator
from runtime.collectives import tensors


class LocalSGD:
    """A context for a training loop with local SGD; call `step` after each optimizer step.

    Averaging takes one all-reduce for all weights of one dtype.

    Attributes:
        enabled: whether weights are averaged.
        accelerator: the Accelerator that has prepared the model.
        model: the prepared model.
        local_sgd_steps: the number of optimizer steps between two averages, >= 1.
        num_steps: the number of optimizer steps so far.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        local_sgd_steps: int,
        enabled: bool = True,
    ) -> None:
        """Begin with no steps.

        Args:
            accelerator: the Accelerator that has prepared the model.
            model: the prepared model.
            local_sgd_steps: the number of optimizer steps between two averages, >= 1.
            enabled: whether to average weights instead of gradients; if not, nothing is changed.

        Raises:
            ValueError: `local_sgd_steps` is less than 1, or each process has a part of the model.
        """
        if local_sgd_steps < 1:
            sentence = f"local_sgd_steps must be at least 1, got {local_sgd_steps}"
            raise ValueError(sentence)
        if enabled and accelerator.state.divides_models:
            sentence = (
                "LocalSGD averages whole models, but each process has a part of this one: pass "
                "enabled=False, or train without an fsdp_plugin and with tp_size=1"
            )
            raise ValueError(sentence)
        self.enabled = enabled and accelerator.use_distributed
        self.accelerator = accelerator
        self.model = model
        self.local_sgd_steps = local_sgd_steps
        self.num_steps = 0
        self._alone = accelerator.no_sync(model)

    def __enter__(self) -> Self:
        if self.enabled:
            self._alone.__enter__()
            self._set_apart(is_apart=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.enabled:
            return
        if kind is None:
            self._average()
        self._set_apart(is_apart=False)
        self._alone.__exit__(kind, error, traceback)

    def step(self) -> None:
        """Count an optimizer step, and average the weights every `local_sgd_steps` steps.

        No automatic checkpoint is written between two averages.
        """
        self.num_steps += 1
        if not self.enabled:
            return
        is_due = self.num_steps % self.local_sgd_steps == 0
        if is_due:
            self._average()
        self._set_apart(is_apart=not is_due)

    def _set_apart(self, *, is_apart: bool) -> None:
        """Note whether the ranks have different weights."""
        state = self.accelerator.gradient_state
        (state.part if is_apart else state.apart.discard)(self)

    def _average(self) -> None:
        weights = [parameter.data for parameter in self.model.parameters()]
        for own, mean in zip(weights, tensors.reduce(weights, "mean"), strict=True):
            own.copy_(mean)
