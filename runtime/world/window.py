"""Scaling the gradients of an accumulation that the end of a data loader has cut short.

Each loss is divided by the batches of a whole accumulation. If there are fewer batches, gradients
are too small by a factor, `scale`. The backward of the last batch multiplies its loss and all
accumulated gradients by that factor; clipping and optimizer steps multiply the gradients that no
backward has multiplied. This is recorded per parameter, not per optimizer: optimizers may share
parameters, and a script may call backward, step and zero_grad of several optimizers in any order.
"""

from collections.abc import Hashable, Iterable

import torch


class Window:
    """The current accumulation.

    Attributes:
        scale: the factor that turns accumulated gradients into a mean; 1 for a whole accumulation.
    """

    def __init__(self) -> None:
        self.scale = 1.0
        self._batches: dict[Hashable, int] = {}  # owner -> the batches of its open accumulation
        self._scaled: dict[int, float] = {}  # id of a parameter -> the factor of its gradient

    def begin(self, owner: Hashable, *, is_first: bool, at_end: bool) -> int:
        """Begin a batch.

        Args:
            owner: identifies the models that are accumulated; each owner's batches are counted
                separately.
            is_first: whether no accumulation has begun since the last one ended.
            at_end: whether this is the last batch of the data loader.

        Returns:
            The number of batches in the owner's accumulation, including this one.
        """
        self.scale = 1.0
        if not at_end:
            self._scaled.clear()
            if is_first:
                self._batches.clear()
        self._batches[owner] = self._batches.get(owner, 0) + 1
        return self._batches[owner]

    def end(self, owner: Hashable) -> None:
        """End the owner's accumulation with the current batch."""
        del self._batches[owner]

    @property
    def is_whole(self) -> bool:
        """Whether no gradient needs scaling, and none has been scaled."""
        return self.scale == 1.0 and not self._scaled

    def scale_all(self, parameters: Iterable[torch.Tensor]) -> None:
        """Scale all gradients: a scaled loss is about to be added to them."""
        for parameter in parameters:
            self._multiply(parameter, self.scale)

    def complete(self, parameters: Iterable[torch.Tensor]) -> None:
        """Scale the gradients that are not scaled yet: they are about to be used."""
        for parameter in () if self.scale == 1.0 else parameters:
            if id(parameter) not in self._scaled:
                self._multiply(parameter, self.scale)

    def take_back(self, parameters: Iterable[torch.Tensor]) -> None:
        """Undo the scaling of gradients."""
        for parameter in parameters if self._scaled else ():
            self._multiply(parameter, 1.0)
            del self._scaled[id(parameter)]

    def clear(self, parameters: Iterable[torch.Tensor]) -> None:
        """Note that the gradients of these parameters were cleared."""
        for parameter in parameters if self._scaled else ():
            self._scaled.pop(id(parameter), None)

    def _multiply(self, parameter: torch.Tensor, wanted: float) -> None:
        factor = wanted / self._scaled.get(id(parameter), 1.0)
        self._scaled[id(parameter)] = wanted
        if parameter.grad is not None and factor != 1.0:
            parameter.grad.mul_(factor)
