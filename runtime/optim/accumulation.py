"""Gradient accumulation: which batches end an accumulation, and the scaling of an incomplete one.

This module counts batches and scales losses. `world.window` scales gradients, which optimizers use
as well.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import nn

from runtime.world.gradient_state import GradientState

Context = contextlib.AbstractContextManager[None]
NoSync = Callable[[nn.Module], Context]


class Accumulation:
    """Counts batches and decides which of them end an accumulation.

    Attributes:
        step: the number of batches since the last end of a data loader.
    """

    def __init__(
        self,
        state: GradientState,
        *,
        parameters: Callable[[], Iterable[torch.Tensor]],
        scales_in_backward: bool = True,
    ) -> None:
        """Start counting at the first batch.

        Args:
            state: the state that optimizers, schedulers and data loaders share.
            parameters: returns the parameters whose gradients may be accumulated; a parameter may
                occur more than once.
            scales_in_backward: whether `backward` may scale the accumulated gradients. FSDP2
                reduces them in backward, so the optimizer's step scales them instead.
        """
        self.step = 0
        self._state = state
        self._parameters = parameters
        self._scales_in_backward = scales_in_backward
        self._models: Sequence[nn.Module] = ()  # the arguments of the current `accumulate`

    def accumulate(self, models: Sequence[nn.Module], no_sync: NoSync) -> Context:
        """Return a context for one batch; see `Accelerator.accumulate`.

        Args:
            models: the models whose gradients are accumulated.
            no_sync: returns a context in which the gradients of a model are not reduced.
        """
        return _Batch(self, models, no_sync)

    def weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """Return a loss scaled by its share in an optimizer step.

        If the end of a data loader cuts the accumulation short, the gradients accumulated so far
        are scaled as well.
        """
        if self._state.num_steps == 1:
            return loss
        loss, window = loss / self._state.num_steps, self._state.window
        if not self._scales_in_backward:
            window.take_back(self._all_parameters())
            return loss
        parameters = [] if window.is_whole else list(self._all_parameters())
        window.scale_all(parameters)
        return loss * window.scale if parameters else loss

    def begin(self, models: Sequence[nn.Module], no_sync: NoSync) -> contextlib.ExitStack | None:
        """Begin a batch; return the contexts that keep its gradients local, if there are any."""
        self._models = models
        self._decide(tuple(map(id, models)))
        if self._state.sync_gradients or self._state.sync_each_batch:
            return None
        with contextlib.ExitStack() as stack:
            for model in models:
                stack.enter_context(no_sync(model))
            return stack.pop_all()

    def end(self) -> None:
        """End a batch."""
        self._models = ()

    def _decide(self, owner: tuple[int, ...]) -> None:
        """Decide whether this batch ends its owner's accumulation."""
        state = self._state
        at_end = state.sync_with_dataloader and state.end_of_dataloader
        batches = state.window.begin(owner, is_first=not self.step, at_end=at_end)
        self.step += 1
        state.sync_gradients = at_end or self.step % state.num_steps == 0
        if state.sync_gradients:
            state.window.end(owner)
        if at_end:
            self.step = 0
            if state.mean_of_last_window:
                state.window.scale = state.num_steps / batches

    def _all_parameters(self) -> Iterator[torch.Tensor]:
        for model in self._models:
            yield from model.parameters()
        yield from self._parameters()


class _Batch(contextlib.ContextDecorator):
    """The context of one batch.

    It is not a generator, which would take as long as everything inside the context.
    """

    def __init__(
        self, accumulation: Accumulation, models: Sequence[nn.Module], no_sync: NoSync
    ) -> None:
        self._accumulation = accumulation
        self._models = models
        self._no_sync = no_sync
        self._local: contextlib.ExitStack | None = None

    def __enter__(self) -> None:
        self._local = self._accumulation.begin(self._models, self._no_sync)

    def __exit__(self, *error: object) -> None:
        self._accumulation.end()
        if self._local is not None:
            self._local.close()
