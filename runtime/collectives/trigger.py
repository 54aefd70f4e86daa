"""A flag that any process may raise and all processes see."""

import torch

from runtime.collectives.tensors import reduce


class Trigger:
    """A flag that is raised by one process and read by all of them together."""

    def __init__(self, device: torch.device) -> None:
        """Make a lowered flag; `device` is the one of this process."""
        self._device = device
        self._is_set = False

    def set(self) -> None:
        """Raise the flag on this process."""
        self._is_set = True

    def check(self) -> bool:
        """Whether any process has raised the flag; all processes must call this. Lowers it."""
        raised = torch.tensor(int(self._is_set), device=self._device)
        self._is_set = False
        return bool(reduce(raised, "sum") >= 1)
