"""Copies from the memory of an accelerator to pinned CPU memory, beside what it computes.

An accelerator does what a stream is given in order, and the host does not wait for it. A lane has a
stream of its own, so that its copies run beside those of the training, which are in another one.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from runtime.world.streams import has_streams, recorded
from runtime.world.warn import warn_once

Pair = tuple[torch.Tensor, torch.Tensor]  # the bytes to copy to, and the ones to copy from

_NOT_PINNED = (
    "CPU memory for checkpoints cannot be pinned ({}): training waits while they are copied. Raise "
    "the memory limit of the container, or its limit of locked memory"
)


class Mark(Protocol):
    """The end of some copies."""

    def hold(self) -> None:
        """Let all that the device is given from now on begin after the copies; does not wait."""

    def wait(self) -> None:
        """Wait until the copies are complete; may be called by any thread."""


class Lane(Protocol):
    """Copies from one device to the CPU."""

    def empty(self, bytes_: int) -> torch.Tensor:
        """Return CPU memory that the device can copy to, uint8 (bytes,)."""

    def copy(self, first: Sequence[Pair], beside: Sequence[Pair]) -> Mark:
        """Begin copies, which have the values that all work given to the device so far leaves.

        Args:
            first: what is copied before all that the device is given from now on.
            beside: what is copied beside it: the values must not change before `Mark.hold`.
        """


class DeviceLane:
    """Copies from an accelerator to pinned memory."""

    def __init__(self, device: torch.device) -> None:
        """Create the stream.

        Args:
            device: the accelerator.
        """
        self._device = device
        self._module = getattr(torch, device.type)
        self._stream = self._module.Stream(device)

    def empty(self, bytes_: int) -> torch.Tensor:
        """Return pinned memory; see `Lane.empty`.

        If the system has no more of it, it is usual memory, and the host waits for the copies.
        """
        try:
            return torch.empty(bytes_, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            warn_once(_NOT_PINNED.format(str(error).partition("\n")[0]))
            return torch.empty(bytes_, dtype=torch.uint8)

    def copy(self, first: Sequence[Pair], beside: Sequence[Pair]) -> Mark:
        """Begin copies; see `Lane.copy`."""
        _copy(first)
        self._stream.wait_stream(self._module.current_stream(self._device))
        with self._module.stream(self._stream):
            _copy(beside)
        return _End(self._module, self._device, recorded(self._device, self._stream))


class _End:
    """An event behind some copies."""

    def __init__(self, module: Any, device: torch.device, event: Any) -> None:
        self._module, self._device, self._event = module, device, event

    def hold(self) -> None:
        self._module.current_stream(self._device).wait_event(self._event)

    def wait(self) -> None:
        self._event.synchronize()


def _copy(pairs: Sequence[Pair]) -> None:
    if pairs:
        targets, sources = zip(*pairs, strict=True)
        torch._foreach_copy_(targets, sources, non_blocking=True)  # one call instead of thousands


def lane_of(device: torch.device) -> Lane | None:
    """Return a new lane of a device; None if it has no pinned memory, as the CPU itself."""
    return DeviceLane(device) if has_streams(device) else None
