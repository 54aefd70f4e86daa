"""A flag that any process can set and all processes read together."""

import torch

from runtime.collectives.tensors import reduce


class Trigger:
    """A flag that any process can set and all processes read together."""

    def __init__(self, device: torch.device) -> None:
        """Create a flag that is not set.

        Args:
            device: the device of this process.
        """
        self._device = device
        self._is_set = False

    def set(self) -> None:
        """Set the flag on this process."""
        self._is_set = True

    def check(self) -> bool:
        """Whether any process has set the flag; resets it. All processes must call this."""
        raised = torch.tensor(int(self._is_set), device=self._device)
        self._is_set = False
        return bool(reduce(raised, "sum") >= 1)
