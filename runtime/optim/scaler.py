"""The gradient scaler of fp16 mixed precision."""

from collections.abc import Iterable
from typing import Any

import torch

from runtime.config.handlers import GradScalerKwargs
from runtime.optim.optimizer import AcceleratedOptimizer


def make_scaler(
    precision: str, device: torch.device, handler: GradScalerKwargs | None
) -> torch.amp.GradScaler | None:
    """Return the gradient scaler for a precision; None unless the precision is `fp16`.

    Args:
        precision: the mixed precision.
        device: the device of this process.
        handler: the arguments of the scaler; None for the defaults.
    """
    if precision != "fp16":
        return None
    return torch.amp.GradScaler(device.type, **(handler.to_kwargs() if handler else {}))


def unscale(scaler: torch.amp.GradScaler | None, optimizers: Iterable[Any]) -> None:
    """Divide the gradients of optimizers by the scale factor.

    Args:
        scaler: the gradient scaler; None does nothing.
        optimizers: the optimizers, prepared or not.
    """
    for optimizer in optimizers if scaler is not None else ():
        is_prepared = isinstance(optimizer, AcceleratedOptimizer)
        scaler.unscale_(optimizer.optimizer if is_prepared else optimizer)  # type: ignore[union-attr]  # not None
