"""What is put around a model: a device, DistributedDataParallel, autocast."""

import functools
import types
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.nested import map_tensors
from runtime.state import AcceleratorState

ORIGINAL_FORWARD = "_original_forward"  # Accelerate's name for it
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def prepare_model(
    model: nn.Module,
    *,
    state: AcceleratorState,
    device_placement: bool,
    evaluation_mode: bool = False,
) -> nn.Module:
    """Place a model, run its forward under autocast, and average its gradients over all processes.

    Args:
        model: of the script.
        state: of this process.
        device_placement: whether the model goes to the process' device.
        evaluation_mode: no gradients will be needed.
    """
    if state.mixed_precision != "no":
        _autocast_forward(model, state)
    if device_placement:
        model = model.to(state.device)
    trains = any(parameter.requires_grad for parameter in model.parameters())
    if not state.use_distributed or evaluation_mode or not trains:
        return model
    on_device = state.device.type != "cpu"
    return DistributedDataParallel(model, device_ids=[state.device.index] if on_device else None)


def _autocast_forward(model: nn.Module, state: AcceleratorState) -> None:
    """Compute in lower precision, and give the loss what it expects: float32."""
    if ORIGINAL_FORWARD in model.__dict__:
        return
    original = model.forward
    autocast = torch.autocast(state.device.type, dtype=DTYPES[state.mixed_precision])

    @functools.wraps(getattr(original, "__func__", original))
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with autocast:
            outputs = self.__dict__[ORIGINAL_FORWARD](*args, **kwargs)
        return map_tensors(_as_float32, outputs)

    model.__dict__[ORIGINAL_FORWARD] = original
    # Bound, so that a deep copy of the model computes with the copy's weights.
    model.forward = types.MethodType(forward, model)


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in DTYPES.values() else tensor


def unwrap_model(model: nn.Module, keep_fp32_wrapper: bool = True) -> nn.Module:
    """The script's own model, out of what `prepare_model` has put around it.

    Args:
        model: prepared, or not.
        keep_fp32_wrapper: whether its forward stays under autocast.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    original = inner.__dict__.get(ORIGINAL_FORWARD)
    if not keep_fp32_wrapper and original is not None:
        del inner.__dict__["forward"], inner.__dict__[ORIGINAL_FORWARD]
        if getattr(original, "__func__", None) is not type(inner).forward:
            inner.forward = original  # the script had set it on this very model
    return inner
