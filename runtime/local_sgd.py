"""Local SGD: each process trains alone for some steps, then all take the mean of their weights."""

from types import TracebackType
from typing import Self

from torch import nn

from runtime.accelerator import Accelerator
from runtime.collectives import tensors


class LocalSGD:
    """Around a training loop; `step` is called after each optimizer step.

    The mean costs one message for all weights of a dtype, whatever their number.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        local_sgd_steps: int,
        enabled: bool = True,
    ) -> None:
        """Begin a loop.

        Args:
            accelerator: that the model was prepared by.
            model: prepared.
            local_sgd_steps: optimizer steps between two means, >= 1.
            enabled: False does nothing.

        Raises:
            ValueError: less than one step.
        """
        if local_sgd_steps < 1:
            sentence = f"local_sgd_steps must be at least 1, got {local_sgd_steps}"
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
        self._alone.__exit__(kind, error, traceback)

    def step(self) -> None:
        """Count an optimizer step; take the mean if it is time to."""
        self.num_steps += 1
        if self.enabled and self.num_steps % self.local_sgd_steps == 0:
            self._average()

    def _average(self) -> None:
        weights = [parameter.data for parameter in self.model.parameters()]
        for own, mean in zip(weights, tensors.reduce(weights, "mean"), strict=True):
            own.copy_(mean)
