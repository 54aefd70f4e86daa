"""Copies batches to a device: when the script gets them, or before, beside what it computes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch

from runtime.collectives.nested import leaves, send_to_device
from runtime.world.streams import has_streams, recorded

Give = Callable[[], Any]

_AHEAD = 3  # steps that the host may be ahead of the accelerator: each has the memory of a batch


class Placer(Protocol):
    """Copies the batches of one pass to a device."""

    def begin(self, batch: Any) -> Give:
        """Take a batch that was read; return the function that gives it, on the device.

        Args:
            batch: nested data.
        """


class AtOnce:
    """Copies a batch when it is given."""

    def __init__(self, device: torch.device, *, non_blocking: bool) -> None:
        """Take the device.

        Args:
            device: the device; tensors that are there are not copied.
            non_blocking: whether not to wait for the copy; requires pinned memory.
        """
        self._device, self._non_blocking = device, non_blocking

    def begin(self, batch: Any) -> Give:
        """Return the function that copies the batch; see `Placer.begin`."""
        return partial(send_to_device, batch, self._device, self._non_blocking)


class Beside:
    """Copies a batch by a stream of its own, while the one before is computed.

    A copy from pinned memory costs the host nothing. One from other memory takes the host the time
    of the copy, but does not wait for what is computed, as it would in the stream of the script.
    """

    def __init__(self, device: torch.device, *, non_blocking: bool) -> None:
        """Create the stream.

        Args:
            device: an accelerator.
            non_blocking: whether `begin` does not wait for the copy: the memory of the batch must
                then not be used again before the accelerator has copied it. Before torch 2.15, a
                process whose GPU fails then aborts when it frees such memory, and may not say why.
        """
        self._device, self._non_blocking = device, non_blocking
        self._module = getattr(torch, device.type)
        self._stream = self._module.Stream(device)
        self._steps: list[Any] = []  # events at the ends of the last steps, the oldest first

    def begin(self, batch: Any) -> Give:
        """Begin to copy; see `Placer.begin`."""
        if not can_be_beside(batch):
            return AtOnce(self._device, non_blocking=self._non_blocking).begin(batch)
        self._await_step()
        with self._module.stream(self._stream):
            sent = send_to_device(batch, self._device, self._non_blocking)
        return partial(self._give, sent, recorded(self._device, self._stream))

    def _give(self, sent: Any, end: Any) -> Any:
        current = self._module.current_stream(self._device)
        current.wait_event(end)
        for one in leaves(sent):
            if isinstance(one, torch.Tensor) and one.device.type == self._device.type:
                one.record_stream(current)  # the memory is not used again before the script's work
        return sent

    def _await_step(self) -> None:
        """Wait for a step a while ago: the memory of its batch is then used again."""
        current = self._module.current_stream(self._device)
        self._steps.append(recorded(self._device, current))
        if len(self._steps) > _AHEAD:
            self._steps.pop(0).synchronize()


def placer(device: torch.device, *, non_blocking: bool) -> Placer:
    """Return what copies the batches of a pass to a device; see `DataLoaderConfiguration`."""
    kind = Beside if has_streams(device) else AtOnce
    return kind(device, non_blocking=non_blocking)


def can_be_beside(batch: Any) -> bool:
    """Whether all tensors of a batch are found, and are in CPU memory.

    Other objects that move themselves may have tensors whose memory would be used again too early.

    >>> can_be_beside([torch.ones(1), {"label": "a"}]), can_be_beside(torch.ones(1, device="meta"))
    (True, False)
    """
    if isinstance(batch, torch.Tensor):
        is_strided = type(batch) is torch.Tensor and batch.layout is torch.strided
        return is_strided and batch.device.type == "cpu" and not batch.is_nested
    if isinstance(batch, list | tuple):
        return all(map(can_be_beside, batch))
    if isinstance(batch, Mapping):
        return all(map(can_be_beside, batch.values()))
    return not hasattr(batch, "to")
