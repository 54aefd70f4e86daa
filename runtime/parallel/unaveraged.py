"""Which optimized parameters have gradients that nothing averages over the processes."""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

# Prepared models of all Accelerators, also after free_memory, and the parameters whose gradients
# they average: those that trained when the model was prepared; None: all that the model has.
_models: "weakref.WeakKeyDictionary[nn.Module, Sequence[torch.Tensor] | None]"
_models = weakref.WeakKeyDictionary()
_SHOWN = 4  # shapes in an error message


def note_prepared(model: nn.Module, averaged: Sequence[torch.Tensor] | None) -> None:
    """Note a model, and the parameters whose gradients it averages; None: all that it has."""
    _models[model] = averaged


class Unaveraged:
    """The parameters of prepared optimizers that no prepared model averages."""

    def __init__(self) -> None:
        """No optimizer is prepared yet."""
        self._optimizers: list[_Optimizer] = []

    def __bool__(self) -> bool:
        """Whether anything is to be looked at after a backward."""
        return bool(self._optimizers)

    def __iter__(self) -> Iterator[str]:
        """Say what each optimizer has; its parameters are then looked at again.

        A parameter without a gradient is not trained: its model may be prepared later, or another
        parameter has taken its place.
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
        """Have the parameters of an AcceleratedOptimizer looked at; their model may come later."""
        self._optimizers.append(_Optimizer(optimizer))

    def clear(self) -> None:
        """Forget all optimizers."""
        self._optimizers.clear()


class _Optimizer:
    """An optimizer, and those of its parameters that are not known to be averaged."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._size = -1  # parameters when it was looked at; sharding and the script change them
        self._left: Sequence[torch.Tensor] = ()

    def trained(self) -> list[torch.Tensor]:
        """Those that have a gradient."""
        size = sum(len(group["params"]) for group in self.optimizer.param_groups)
        if size != self._size:
            self._size, self._left = size, list(self.optimizer.parameters())
        return [one for one in self._left if one.grad is not None and one.requires_grad]

    def leave_out(self, known: set[int]) -> None:
        """Look no more at these, nor at those that the script averages itself."""
        self._left = [
            one for one in self._left if id(one) not in known and not _is_the_scripts_own(one)
        ]


def _averaged() -> Iterator[torch.Tensor]:
    for model, averaged in list(_models.items()):
        yield from model.parameters() if averaged is None else averaged


def _is_the_scripts_own(parameter: torch.Tensor) -> bool:
    """Whether the script has a gradient averaged: by DTensor, or in a hook."""
    hooks = (getattr(parameter, f"_{kind}_hooks") for kind in ("backward", "post_accumulate_grad"))
    return hasattr(parameter, "full_tensor") or any(hooks)


def _sentence(optimizer: Any, trained: Iterable[torch.Tensor]) -> str:
    shapes = [tuple(one.shape) for one in trained]
    return (
        f"{len(shapes)} of the {len(list(optimizer.parameters()))} parameters of a prepared "
        f"{type(optimizer.optimizer).__name__} have gradients that are not averaged, and each "
        f"process would train its own; their shapes: {shapes[:_SHOWN]}. They are of no prepared "
        "model, or of one that was prepared with evaluation_mode or before they were made or "
        "unfrozen. Pass the model to prepare() when all that it trains is there and unfrozen, also "
        "a model in your own DistributedDataParallel, and unwrapped if it was prepared before. A "
        "parameter of no model belongs in a Module. To reduce gradients yourself, do it in a hook "
        "of the parameter, or do not prepare the optimizer"
    )
