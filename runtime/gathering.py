"""What an Accelerator does with tensors of all processes; each method is a function elsewhere."""

from typing import Any

import torch

from runtime.collectives import metrics, tensors
from runtime.world.roles import StateView


class Gathering(StateView):
    """Mixed into the Accelerator."""

    _trigger: torch.Tensor | None = None

    def gather(self, tensor: Any) -> Any:
        """See `collectives.tensors.gather`."""
        return tensors.gather(tensor)

    def gather_for_metrics(self, input_data: Any, use_gather_object: bool = False) -> Any:
        """See `collectives.metrics.gather_for_metrics`."""
        return metrics.gather_for_metrics(input_data, use_gather_object)

    def reduce(self, tensor: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        """See `collectives.tensors.reduce`."""
        return tensors.reduce(tensor, reduction, scale)

    def pad_across_processes(
        self, tensor: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False
    ) -> Any:
        """See `collectives.tensors.pad_across_processes`."""
        return tensors.pad_across_processes(tensor, dim, pad_index, pad_first)

    def set_trigger(self) -> None:
        """Raise a flag that `check_trigger` sees on all processes."""
        self._trigger = torch.tensor(1, device=self.device)

    def check_trigger(self) -> bool:
        """Whether any process has called `set_trigger`; to be asked by all. Lowers the flag."""
        raised = torch.tensor(0 if self._trigger is None else 1, device=self.device)
        self._trigger = None
        return bool(tensors.reduce(raised, "sum") >= 1)
