"""What an Accelerator does in one step of training."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from runtime.config.handlers import AutocastKwargs
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.parallel.containers import container_of
from runtime.parallel.unaveraged import Unaveraged
from runtime.parallel.wrap import autocast
from runtime.world.gradient_state import GradientState
from runtime.world.roles import StateView
from runtime.world.roll_call import Collective

Context = contextlib.AbstractContextManager[None]
_ALONE = contextlib.nullcontext()  # no other process to wait for


class Stepping(StateView):
    """Mixed into the Accelerator.

    Attributes:
        step: batches since the last synchronisation.
        scaler: of gradients, with fp16.
    """

    gradient_state: GradientState
    scaler: torch.amp.GradScaler | None
    autocast_handler: AutocastKwargs | None
    step: int
    _models: list[nn.Module]
    _optimizers: list[AcceleratedOptimizer]
    _unaveraged: Unaveraged
    _check_optimizers: Callable[[], None]
    _accumulated: Sequence[nn.Module] = ()  # within `accumulate`: its models

    @property
    def gradient_accumulation_steps(self) -> int:
        """Batches for each optimizer step."""
        return self.gradient_state.num_steps

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int) -> None:
        self.gradient_state.plugin_kwargs["num_steps"] = steps

    @property
    def sync_gradients(self) -> bool:
        """Whether this batch ends an accumulation."""
        return self.gradient_state.sync_gradients

    @sync_gradients.setter
    def sync_gradients(self, sync_gradients: bool) -> None:
        self.gradient_state.sync_gradients = sync_gradients

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether an optimizer left its last step out because a gradient was not finite."""
        return any(optimizer.step_was_skipped for optimizer in self._optimizers)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Compute gradients; with accumulation, of the loss' share of an optimizer step.

        Each process has the mean of its own batches, also where it has fewer than others.

        Raises:
            ValueError: in a world of several processes, a prepared optimizer trains parameters of
                no prepared model.
        """
        state = self.gradient_state
        if state.num_steps > 1:
            loss = self._weighted(loss / state.num_steps)
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        with Collective("backward") if self.state.use_distributed else _ALONE:  # it reduces
            loss.backward(**kwargs)  # type: ignore[no-untyped-call]  # torch has not typed it
        if self._unaveraged:
            self._check_optimizers()

    def _weighted(self, loss: torch.Tensor) -> torch.Tensor:
        """Scale a loss, and the gradients that it is added to, for an accumulation cut short.

        FSDP2 reduces what it has accumulated in backward: there the optimizer's step scales it.
        """
        window = self.gradient_state.window
        if self.state.is_fsdp2:
            window.take_back(self._known_parameters())
            return loss
        parameters = [] if window.is_whole else list(self._known_parameters())
        window.scale_all(parameters)
        return loss * window.scale if parameters else loss

    def _known_parameters(self) -> Iterator[torch.Tensor]:
        """Of all models and optimizers that gradients may be accumulated of; some come twice."""
        for model in (*self._models, *self._accumulated):
            yield from model.parameters()
        for optimizer in self._optimizers:
            yield from optimizer.parameters()

    def _do_sync(self, models: Sequence[nn.Module] = ()) -> None:
        """Decide whether this batch ends an accumulation."""
        state, owner = self.gradient_state, tuple(map(id, models))
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

    def accumulate(self, *models: nn.Module) -> Context:
        """Around one batch: gradients are reduced, and optimizers step, each so many batches.

        The last batch of a data loader always ends an accumulation.

        Args:
            *models: prepared models whose gradients are accumulated.
        """
        return _Batch(self, models)

    def _apart(self, models: Sequence[nn.Module]) -> contextlib.ExitStack | None:
        """Begin a batch; if it only accumulates, what keeps its gradients on this process."""
        self._accumulated = models
        self._do_sync(models)
        state = self.gradient_state
        if state.sync_gradients or state.sync_each_batch:
            return None
        with contextlib.ExitStack() as stack:
            for model in models:
                stack.enter_context(self.no_sync(model))
            return stack.pop_all()

    @contextlib.contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        """Within, gradients stay on this process."""
        with container_of(self.state).no_sync(model):
            yield

    @staticmethod
    @contextlib.contextmanager
    def trigger_sync_in_backward(model: nn.Module) -> Iterator[None]:
        """Reduce gradients in the next backward, though forward ran under `no_sync`.

        Args:
            model: prepared; one that is not DistributedDataParallel stays as it is.
        """
        if not isinstance(model, nn.parallel.DistributedDataParallel):
            yield
            return
        before = model.require_backward_grad_sync, model.require_forward_param_sync
        model.require_backward_grad_sync = model.require_forward_param_sync = True
        # What DistributedDataParallel.forward does at its end, where gradients are to be reduced.
        model.reducer.prepare_for_backward([])
        try:
            yield
        finally:
            model.require_backward_grad_sync, model.require_forward_param_sync = before

    def unscale_gradients(self, optimizer: Any = None) -> None:
        """Take the fp16 scaler's factor out of the gradients.

        Args:
            optimizer: one, or a list of them; by default all that are prepared.
        """
        if self.scaler is None:
            return
        chosen = self._optimizers if optimizer is None else optimizer
        for one in chosen if isinstance(chosen, list | tuple) else [chosen]:
            inner = one.optimizer if isinstance(one, AcceleratedOptimizer) else one
            self.scaler.unscale_(inner)

    def _complete_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Have gradients be what a step would use; those of other optimizers are not touched."""
        if not self.sync_gradients:
            return
        chosen = set(map(id, parameters))
        self.gradient_state.window.complete(parameters)
        self.unscale_gradients(
            [one for one in self._optimizers if not chosen.isdisjoint(map(id, one.parameters()))]
        )

    def clip_grad_norm_(
        self, parameters: Any, max_norm: float, norm_type: float = 2
    ) -> torch.Tensor:
        """Scale the gradients down to a norm, when they are complete; returns what they had."""
        parameters = _listed(parameters)
        self._complete_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
        full: Callable[[], torch.Tensor] | None = getattr(norm, "full_tensor", None)
        return norm if full is None else full()

    def clip_grad_value_(self, parameters: Any, clip_value: float) -> None:
        """Cut each gradient to a range."""
        parameters = _listed(parameters)
        self._complete_gradients(parameters)
        nn.utils.clip_grad_value_(parameters, clip_value)

    @contextlib.contextmanager
    def autocast(self, autocast_handler: AutocastKwargs | None = None) -> Iterator[None]:
        """Compute in the precision that was asked for.

        Args:
            autocast_handler: instead of the one that the Accelerator was given.
        """
        with autocast(self.state, autocast_handler or self.autocast_handler):
            yield


class _Batch(contextlib.ContextDecorator):
    """One batch of an accumulation; a generator would cost as much as all the rest of it."""

    def __init__(self, stepping: Stepping, models: Sequence[nn.Module]) -> None:
        self._stepping = stepping
        self._models = models
        self._apart: contextlib.ExitStack | None = None

    def __enter__(self) -> None:
        self._apart = self._stepping._apart(self._models)  # noqa: SLF001  # its other half

    def __exit__(self, *error: object) -> None:
        self._stepping._accumulated = ()  # noqa: SLF001
        if self._apart is not None:
            self._apart.close()


def _listed(parameters: Any) -> list[torch.Tensor]:
    """A tensor, or many, which may be a generator's."""
    return [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
