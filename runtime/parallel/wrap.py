"""Prepares a model for training on all processes, and unwraps it again."""

import contextlib
import functools
import inspect
import types
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.config.handlers import AutocastKwargs, DistributedDataParallelKwargs
from runtime.config.precision import DTYPES
from runtime.parallel.containers import container_of
from runtime.parallel.precision import convert_to_fp32
from runtime.world.roll_call import Collective
from runtime.world.state import AcceleratorState

ORIGINAL_FORWARD = "_original_forward"  # the attribute in Accelerate


def autocast(
    state: AcceleratorState, handler: AutocastKwargs | None
) -> contextlib.AbstractContextManager[Any]:
    """Return a context for mixed precision.

    Args:
        state: the state of this process, which has the precision.
        handler: the arguments of torch.autocast.
    """
    dtype = DTYPES.get(state.mixed_precision)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(state.device.type, dtype, **(handler or AutocastKwargs()).to_dict())


def prepare_model(
    model: nn.Module,
    *,
    state: AcceleratorState,
    device_placement: bool,
    evaluation_mode: bool = False,
    autocast_handler: AutocastKwargs | None = None,
    ddp_handler: DistributedDataParallelKwargs | None = None,
) -> nn.Module:
    """Move a model to the device, set up mixed precision, and replicate or shard the model.

    Args:
        model: the script's model.
        state: the state of this process.
        device_placement: whether the model is moved to the device of this process.
        evaluation_mode: whether the model will have no gradients.
        autocast_handler: the arguments of torch.autocast.
        ddp_handler: the arguments of DistributedDataParallel.
    """
    container = container_of(state, handler=ddp_handler, evaluation_mode=evaluation_mode)
    if state.mixed_precision != "no" and container.autocasts:
        dtype = DTYPES[state.mixed_precision]
        _autocast_forward(model, autocast(state, autocast_handler), state.device.type, dtype)
    with Collective("prepare_model"):  # all processes compare and send weights
        return container.wrap(container.place(model) if device_placement else model)


def _autocast_forward(model: nn.Module, context: Any, device_type: str, dtype: torch.dtype) -> None:
    """Run a model's forward under autocast, and convert its outputs to float32 for the loss.

    A forward within a forward must not enter the context again, which is one object: it would
    remember that autocast was on before, and leave it on.
    """
    if ORIGINAL_FORWARD in model.__dict__:
        return
    original = model.forward

    @functools.wraps(getattr(original, "__func__", original))
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        is_on = torch.is_autocast_enabled(device_type)
        is_inner = is_on and torch.get_autocast_dtype(device_type) == dtype
        with contextlib.nullcontext() if is_inner else context:
            outputs = self.__dict__[ORIGINAL_FORWARD](*args, **kwargs)
        return convert_to_fp32(outputs)

    signature = inspect.signature(original)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    forward.__signature__ = signature.replace(  # type: ignore[attr-defined]  # read by inspect
        parameters=[own, *signature.parameters.values()]
    )
    model.__dict__[ORIGINAL_FORWARD] = original
    # A bound method, so that a deep copy of the model computes with the weights of the copy.
    model.forward = types.MethodType(forward, model)


def is_compiled_module(module: Any) -> bool:
    """Whether a module is the result of torch.compile.

    Args:
        module: the module.
    """
    return isinstance(module, torch._dynamo.eval_frame.OptimizedModule)  # noqa: SLF001  # torch has no public name for it


def extract_model_from_parallel(
    model: nn.Module,
    keep_fp32_wrapper: bool = True,
    keep_torch_compile: bool = True,
    recursive: bool = False,
) -> nn.Module:
    """Return the script's own model out of a prepared one.

    Args:
        model: a model, prepared or not.
        keep_fp32_wrapper: whether its forward keeps computing in mixed precision.
        keep_torch_compile: whether it stays compiled.
        recursive: whether the modules inside the model are unwrapped, too.
    """
    compiled = model if is_compiled_module(model) else None
    inner: Any = model if compiled is None else compiled._orig_mod  # noqa: SLF001
    if isinstance(inner, DistributedDataParallel | nn.DataParallel):
        inner = inner.module
    if recursive:
        for name, child in inner.named_children():
            setattr(inner, name, extract_model_from_parallel(child, keep_fp32_wrapper, True, True))
    if is_compiled_module(inner) and not keep_torch_compile:
        inner = inner._orig_mod  # noqa: SLF001
    if not keep_fp32_wrapper:
        _restore_forward(inner)
    if compiled is not None and keep_torch_compile:
        compiled._orig_mod = inner  # noqa: SLF001
        return compiled
    unwrapped: nn.Module = inner
    return unwrapped


def bare(model: nn.Module) -> nn.Module:
    """Return the script's own model, whose parameter names do not depend on the world size."""
    return extract_model_from_parallel(model, keep_torch_compile=False)


def _restore_forward(model: nn.Module) -> None:
    original = model.__dict__.get(ORIGINAL_FORWARD)
    if original is None:
        return
    del model.__dict__["forward"], model.__dict__[ORIGINAL_FORWARD]
    if getattr(original, "__func__", None) is not type(model).forward:
        model.forward = original  # the script had assigned it to this instance
