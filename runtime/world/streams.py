"""The streams of accelerators, in which work runs beside that of the script."""

from typing import Any

import torch

# The accelerators whose streams copy to and from pinned memory without the host, and the options
# of their events.
_OPTIONS: dict[str, dict[str, Any]] = {"cuda": {"blocking": True}, "xpu": {}}


def has_streams(device: torch.device) -> bool:
    """Whether a device has streams of its own.

    >>> has_streams(torch.device("cpu")), has_streams(torch.device("cuda"))
    (False, True)
    """
    return device.type in _OPTIONS


def recorded(device: torch.device, stream: Any) -> Any:
    """Return an event behind all that a stream was given.

    Args:
        device: a device that has streams.
        stream: a stream of the device.
    """
    event = getattr(torch, device.type).Event(**_OPTIONS[device.type])
    event.record(stream)
    return event
