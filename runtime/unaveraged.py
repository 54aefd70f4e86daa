"""Which optimized parameters have gradients that nothing averages over the processes."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

# Of all Accelerators, and after free_memory: a prepared model averages as long as it is there.
_models: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
_SHOWN = 4  # shapes in an error message


def note_prepared(model: nn.Module) -> None:
    """Note a model whose gradients are averaged."""
    _models[id(model)] = model


class Unaveraged:
    """The parameters of prepared optimizers that are of no prepared model yet."""

    def __init__(self) -> None:
        """No optimizer is prepared yet."""
        self._new: list[Any] = []  # optimizers, whose parameters sharding may still replace
        self._left: list[tuple[Any, Sequence[torch.Tensor]]] = []

    def __bool__(self) -> bool:
        """Whether anything is to be looked at after a backward."""
        return bool(self._new or self._left)

    def __iter__(self) -> Iterator[str]:
        """Say what each optimizer has; its parameters are then looked at again.

        A parameter without a gradient is not trained: its model may be prepared later, or another
        parameter has taken its place.
        """
        self._left += [(optimizer, list(optimizer.parameters())) for optimizer in self._new]
        self._new.clear()
        if not any(one.grad is not None for _, left in self._left for one in left):
            return
        known = {id(one) for model in list(_models.values()) for one in model.parameters()}
        found = [(optimizer, _unknown(left, known)) for optimizer, left in self._left]
        self._left = [(optimizer, left) for optimizer, left in found if left]
        for optimizer, left in self._left:
            if trained := [one for one in left if one.grad is not None]:
                yield _sentence(optimizer, trained)

    def add(self, optimizer: Any) -> None:
        """Have the parameters of an AcceleratedOptimizer looked at; their model may come later."""
        self._new.append(optimizer)

    def clear(self) -> None:
        """Forget all optimizers."""
        self._new.clear()
        self._left.clear()


def _unknown(parameters: Iterable[torch.Tensor], known: set[int]) -> list[torch.Tensor]:
    return [one for one in parameters if id(one) not in known and not _is_the_scripts_own(one)]


def _is_the_scripts_own(parameter: torch.Tensor) -> bool:
    """Whether it is frozen, or the script has its gradient averaged: by DTensor, or in a hook."""
    hooks = (getattr(parameter, f"_{kind}_hooks") for kind in ("backward", "post_accumulate_grad"))
    return not parameter.requires_grad or hasattr(parameter, "full_tensor") or any(hooks)


def _sentence(optimizer: Any, trained: Sequence[torch.Tensor]) -> str:
    shapes = [tuple(one.shape) for one in trained[:_SHOWN]]
    return (
        f"{len(trained)} of the {len(list(optimizer.parameters()))} parameters of a prepared "
        f"{type(optimizer.optimizer).__name__} have gradients and are of no prepared model, and "
        f"each process would train its own; their shapes: {shapes}. Pass the model to prepare(), "
        "also one that is in your own DistributedDataParallel. A parameter of no model belongs in "
        "a Module. To reduce gradients yourself, do it in a hook of the parameter, or do not "
        "prepare the optimizer"
    )
