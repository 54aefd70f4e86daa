"""Finds optimized parameters whose gradients are not averaged over the processes."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

# The prepared models of all Accelerators, also after free_memory -> the parameters whose gradients
# are averaged: those that required gradients when the model was prepared. None: all of the model.
_models: "weakref.WeakKeyDictionary[nn.Module, Sequence[torch.Tensor] | None]"
_models = weakref.WeakKeyDictionary()
_SHOWN = 4  # shapes in an error message


def note_prepared(model: nn.Module, averaged: Sequence[torch.Tensor] | None) -> None:
    """Note a prepared model.

    Args:
        model: the model.
        averaged: the parameters whose gradients are averaged; None for all that the model has.
    """
    _models[model] = averaged


class Unaveraged:
    """The parameters of prepared optimizers whose gradients no prepared model averages."""

    def __init__(self) -> None:
        """Begin with no optimizers."""
        self._optimizers: list[_Optimizer] = []

    def __bool__(self) -> bool:
        """Whether there are optimizers to check after a backward."""
        return bool(self._optimizers)

    def __iter__(self) -> Iterator[str]:
        """Yield an error message for each optimizer with gradients that are not averaged.

        Parameters without a gradient are not reported: their model may be prepared later, or
        another parameter may have replaced them.
        """
        suspects = [one for one in self._optimizers if one.trained()]
        if not suspects:
            return
        known = {id(parameter) for parameter in _averaged()}
        for optimizer in suspects:
            optimizer.leave_out(known)
            if trained := optimizer.trained():
                yield _sentence(optimizer.optimizer, trained)

    def add(self, optimizer: Any) -> None:
        """Add an AcceleratedOptimizer to check; its model may be prepared later."""
        self._optimizers.append(_Optimizer(optimizer))

    def clear(self) -> None:
        """Remove all optimizers."""
        self._optimizers.clear()


class _Optimizer:
    """An optimizer, and those of its parameters that are not known to be averaged.

    Attributes:
        optimizer: the AcceleratedOptimizer.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        # The number of parameters at the last check: sharding and the script change them.
        self._size = -1
        self._left: Sequence[torch.Tensor] = ()

    def trained(self) -> list[torch.Tensor]:
        """Return the parameters that have a gradient and are not known to be averaged."""
        size = sum(len(group["params"]) for group in self.optimizer.param_groups)
        if size != self._size:
            self._size, self._left = size, list(self.optimizer.parameters())
        return [one for one in self._left if one.grad is not None and one.requires_grad]

    def leave_out(self, known: set[int]) -> None:
        """Stop checking parameters that are averaged, or whose gradients the script averages.

        Args:
            known: the ids of the averaged parameters.
        """
        self._left = [
            one for one in self._left if id(one) not in known and not _is_the_scripts_own(one)
        ]


def _averaged() -> Iterator[torch.Tensor]:
    for model, averaged in list(_models.items()):
        yield from model.parameters() if averaged is None else averaged


def _is_the_scripts_own(parameter: torch.Tensor) -> bool:
    """Whether the script averages the gradient itself: the parameter is a DTensor, or has hooks."""
    hooks = (getattr(parameter, f"_{kind}_hooks") for kind in ("backward", "post_accumulate_grad"))
    return hasattr(parameter, "full_tensor") or any(hooks)


def _sentence(optimizer: Any, trained: Iterable[torch.Tensor]) -> str:
    shapes = [tuple(one.shape) for one in trained]
    return (
        f"{len(shapes)} of the {len(list(optimizer.parameters()))} parameters of a prepared "
        f"{type(optimizer.optimizer).__name__} have gradients that are not averaged, so that each "
        f"process would train its own; their shapes: {shapes[:_SHOWN]}. They belong to no prepared "
        "model, or their model was prepared with evaluation_mode, or before they were created or "
        "unfrozen. Pass the model to prepare() when all parameters that it trains exist and are "
        "unfrozen; unwrap it first if it was prepared before. A model in your own "
        "DistributedDataParallel must be passed, too, and a parameter that belongs to no model "
        "must be put into a Module. To reduce gradients yourself, do it in a hook of the "
        "parameter, or do not prepare the optimizer"
    )
