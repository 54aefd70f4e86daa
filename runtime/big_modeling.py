"""Creates models on the meta device or another device, to load or shard their weights later."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from runtime.config import left_out
from runtime.config.settings import Settings


@contextlib.contextmanager
def init_empty_weights(include_buffers: bool | None = None) -> Iterator[None]:
    """Create models on the meta device inside the context: their parameters need no memory.

    Args:
        include_buffers: whether buffers are on the meta device, too; by default the value of
            ACCELERATE_INIT_INCLUDE_BUFFERS, or false.
    """
    with init_on_device(torch.device("meta"), include_buffers):
        yield


@contextlib.contextmanager
def init_on_device(device: torch.device, include_buffers: bool | None = None) -> Iterator[None]:
    """Create models on a device inside the context.

    Args:
        device: the device of the parameters.
        include_buffers: whether buffers are on that device, too; by default the value of
            ACCELERATE_INIT_INCLUDE_BUFFERS, or false.
    """
    if include_buffers is None:
        include_buffers = bool(Settings.from_env(os.environ).init_include_buffers)
    if include_buffers:
        with device:
            yield
        return

    def moved(_module: nn.Module, _name: str, parameter: Any) -> Any:
        if parameter is None or parameter.device == device:
            return None
        options = dict(parameter.__dict__) | {"requires_grad": parameter.requires_grad}
        return type(parameter)(parameter.to(device), **options)

    handle = registration.register_module_parameter_registration_hook(moved)
    try:
        yield
    finally:
        handle.remove()


# Functions that place a model on several devices are not supported.
__getattr__ = left_out.stand_ins(__name__, ("init_empty_weights", "init_on_device"))
