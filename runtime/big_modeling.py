"""Models without memory: made on the meta device, to be filled from a checkpoint or sharded."""

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
    """Within, models are made without memory for their parameters.

    Args:
        include_buffers: nor for their buffers; by default as ACCELERATE_INIT_INCLUDE_BUFFERS says.
    """
    with init_on_device(torch.device("meta"), include_buffers):
        yield


@contextlib.contextmanager
def init_on_device(device: torch.device, include_buffers: bool | None = None) -> Iterator[None]:
    """Within, models are made on a device.

    Args:
        device: where parameters go.
        include_buffers: buffers, too; default: as ACCELERATE_INIT_INCLUDE_BUFFERS says.
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


# What places models on several devices is left out.
__getattr__ = left_out.stand_ins(__name__, ("init_empty_weights", "init_on_device"))
