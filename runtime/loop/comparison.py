"""Compares the tensors that all ranks must have alike from time to time, without a collective."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from runtime.data.loader import DataLoaderShard
from runtime.loop.cadence import Cadence
from runtime.loop.digest import digests, of_training
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState

log = logging.getLogger(__name__)

Tell = Callable[[int, Mapping[str, int]], None]  # the steps, and the name of each tensor -> digest


class Comparison:
    """Computes the digests of this rank's tensors at steps that are the same on all ranks.

    Attributes:
        next_step: the number of completed steps from which the next digests are due.
    """

    def __init__(
        self, every: int | None, gradient_state: GradientState, prepared: Prepared
    ) -> None:
        """Begin before the first step.

        Args:
            every: the number of steps between two comparisons; None for none.
            gradient_state: the steps of this process.
            prepared: the objects that the script has prepared.
        """
        self._cadence = Cadence(every_steps=every)
        self.next_step = self._cadence.next_step(0)
        self._gradient_state, self._prepared = gradient_state, prepared

    def compare(self, steps: int, loader: Any, tell: Tell) -> None:
        """Compute the digests; to be called at a boundary behind an optimizer step.

        Nothing is computed within a gradient accumulation.

        Args:
            steps: the number of completed optimizer steps.
            loader: the outermost data loader, while it is iterated.
            tell: is given the digests.
        """
        state = self._gradient_state
        if not state.sync_gradients or any(
            one.has_waiting_gradients() for one in self._prepared.optimizers
        ):
            return
        if reason := self._reason_to_end():
            self.next_step = math.inf
            log.warning("runtime: the tensors of the ranks are not compared any more: %s", reason)
            return
        self.next_step = self._cadence.next_step(steps)
        found = of_training(self._prepared.models, self._prepared.optimizers, _generators(loader))
        with torch.no_grad():
            tell(steps, digests(found))

    def _reason_to_end(self) -> str:
        """Return why ranks may rightly have different tensors; empty if they may not."""
        from torch.distributed.tensor import DTensor  # noqa: PLC0415  # slow, and rarely needed

        if self._gradient_state.were_apart:
            return "LocalSGD and join_uneven_inputs let the ranks train apart"
        if any(isinstance(one, DTensor) for one in self._prepared.parameters()):
            return "each rank has a part of the model"
        return ""


def _generators(loader: Any) -> dict[str, torch.Generator]:
    """Return the generator that was synchronized when the current pass over a loader began."""
    if not isinstance(loader, DataLoaderShard) or "generator" not in (loader.rng_types or ()):
        return {}
    generator = loader.synchronized_generator
    return {} if generator is None else {"of the data loader": generator}
