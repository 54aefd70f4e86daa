"""The facade that a training script uses; it composes the other rooms and decides nothing.

Names, arguments and defaults are those of Accelerate 1.15.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from runtime import collectives, metrics
from runtime.configuration import DataLoaderConfiguration, first
from runtime.control import StateView
from runtime.data_loader import DataLoaderShard, prepare_data_loader
from runtime.model import DTYPES, prepare_model, unwrap_model
from runtime.optimizer import AcceleratedOptimizer
from runtime.rng import GENERATOR, check_rng_types, set_seed
from runtime.scheduler import AcceleratedScheduler
from runtime.settings import Settings
from runtime.state import AcceleratorState, GradientState


class Accelerator(StateView):
    """Prepares a script's objects for the world that it runs in."""

    def __init__(
        self,
        device_placement: bool = True,
        split_batches: bool | None = None,
        mixed_precision: str | None = None,
        gradient_accumulation_steps: int | None = None,
        cpu: bool = False,
        dataloader_config: DataLoaderConfiguration | None = None,
        *,
        rng_types: list[str] | None = None,
        step_scheduler_with_optimizer: bool = True,
    ) -> None:
        """Join the world. What is not given here is the job's, by its environment, or a default.

        Args:
            device_placement: put models and batches on this process' device.
            split_batches: the script's batch size is that of all processes together.
            mixed_precision: `no`, `fp16` or `bf16`.
            gradient_accumulation_steps: batches for each optimizer step.
            cpu: compute on the CPU whatever else there is.
            dataloader_config: how data loaders are prepared.
            rng_types: random generators that all processes set alike at the start of each epoch.
            step_scheduler_with_optimizer: schedulers follow their optimizers.

        Raises:
            WorldError: the environment does not describe a world, or it cannot be joined.
            ValueError: an argument or a variable of the environment is wrong.
        """
        settings = Settings.from_env(os.environ)
        is_first = not AcceleratorState.is_made()
        self.state = AcceleratorState(mixed_precision, cpu)
        if is_first and settings.seed is not None:
            set_seed(settings.seed)
        config = dataloader_config or DataLoaderConfiguration()
        self.dataloader_config = config.filled(settings, split_batches)
        self.device_placement = device_placement
        self.rng_types = check_rng_types(first(rng_types, settings.rng_types, (GENERATOR,)))
        self.step_scheduler_with_optimizer = step_scheduler_with_optimizer
        self.gradient_state = GradientState(
            first(gradient_accumulation_steps, settings.gradient_accumulation_steps, 1)
        )
        self.step = 0  # batches since the last synchronisation
        self.scaler = (
            torch.amp.GradScaler(self.device.type) if self.mixed_precision == "fp16" else None
        )
        self._models: list[nn.Module] = []
        self._optimizers: list[AcceleratedOptimizer] = []
        self._schedulers: list[AcceleratedScheduler] = []
        self._dataloaders: list[DataLoaderShard] = []

    @property
    def split_batches(self) -> bool:
        """Whether the script's batch size is that of all processes together."""
        return bool(self.dataloader_config.split_batches)

    @property
    def even_batches(self) -> bool:
        """Whether the last batches are filled, so that all processes have as many."""
        return bool(self.dataloader_config.even_batches)

    @even_batches.setter
    def even_batches(self, even_batches: bool) -> None:
        self.dataloader_config.even_batches = even_batches

    @property
    def mixed_precision(self) -> str:
        """`no`, `fp16` or `bf16`."""
        return str(self.state.mixed_precision)

    @property
    def gradient_accumulation_steps(self) -> int:
        """Batches for each optimizer step."""
        return self.gradient_state.num_steps

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int) -> None:
        GradientState(steps)

    @property
    def sync_gradients(self) -> bool:
        """Whether this batch ends an accumulation."""
        return self.gradient_state.sync_gradients

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether an optimizer left its last step out because a gradient was not finite."""
        return any(optimizer.step_was_skipped for optimizer in self._optimizers)

    def prepare(self, *args: Any, device_placement: list[bool] | None = None) -> Any:
        """Prepare models, optimizers, schedulers and data loaders; return them in the same order.

        Anything else comes back as it is; so does what was prepared before.

        Args:
            *args: the script's objects, each once; an optimizer's model with or before it.
            device_placement: for each object, instead of the Accelerator's own.
        """
        places = device_placement or [self.device_placement] * len(args)
        # Schedulers last: they look for their optimizer among the prepared ones.
        prepared = [self._prepare_one(one, place) for one, place in zip(args, places, strict=True)]
        prepared = [
            self.prepare_scheduler(one) if isinstance(one, LRScheduler) else one for one in prepared
        ]
        return prepared[0] if len(prepared) == 1 else tuple(prepared)

    def _prepare_one(self, one: Any, device_placement: bool) -> Any:
        if isinstance(one, DataLoader):
            return self.prepare_data_loader(one, device_placement)
        if isinstance(one, nn.Module):
            return self.prepare_model(one, device_placement)
        if isinstance(one, torch.optim.Optimizer):
            return self.prepare_optimizer(one)
        return one

    def prepare_model(
        self,
        model: nn.Module,
        device_placement: bool | None = None,
        evaluation_mode: bool = False,
    ) -> nn.Module:
        """Place a model and average its gradients over all processes."""
        if model in self._models:
            return model
        prepared = prepare_model(
            model,
            state=self.state,
            device_placement=first(device_placement, self.device_placement),
            evaluation_mode=evaluation_mode,
        )
        self._models.append(prepared)
        return prepared

    def prepare_data_loader(
        self, data_loader: DataLoader[Any], device_placement: bool | None = None
    ) -> DataLoaderShard:
        """Make a data loader that gives this process its own batches."""
        if isinstance(data_loader, DataLoaderShard):
            return data_loader
        config = self.dataloader_config
        prepared = prepare_data_loader(
            data_loader,
            self.device,
            split_batches=self.split_batches,
            put_on_device=first(device_placement, self.device_placement),
            rng_types=self.rng_types,
            even_batches=self.even_batches,
            use_seedable_sampler=bool(config.use_seedable_sampler),
            data_seed=config.data_seed,
            non_blocking=config.non_blocking,
        )
        self._dataloaders.append(prepared)
        return prepared

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> AcceleratedOptimizer:
        """Make an optimizer that steps when an accumulation ends."""
        if isinstance(optimizer, AcceleratedOptimizer):
            return optimizer
        prepared = AcceleratedOptimizer(optimizer, self.scaler)
        self._optimizers.append(prepared)
        return prepared

    def prepare_scheduler(self, scheduler: Any) -> AcceleratedScheduler:
        """Make a scheduler that follows its optimizer."""
        if isinstance(scheduler, AcceleratedScheduler):
            return scheduler
        own = [one for one in self._optimizers if scheduler.optimizer in (one, one.optimizer)]
        prepared = AcceleratedScheduler(
            scheduler,
            own or self._optimizers,
            step_with_optimizer=self.step_scheduler_with_optimizer,
            split_batches=self.split_batches,
        )
        self._schedulers.append(prepared)
        return prepared

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Compute gradients; with accumulation, of the loss' share of an optimizer step."""
        if self.gradient_state.num_steps > 1:
            loss = loss / self.gradient_state.num_steps
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward(**kwargs)  # type: ignore[no-untyped-call]  # torch has not typed it

    @contextlib.contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """Around one batch: gradients are reduced, and optimizers step, each so many batches.

        The last batch of a data loader always ends an accumulation.

        Args:
            *models: prepared models whose gradients are accumulated.
        """
        at_end = self.gradient_state.end_of_dataloader
        self.step = 0 if at_end else self.step + 1
        sync = at_end or self.step % self.gradient_state.num_steps == 0
        self.gradient_state.sync_gradients = sync
        with contextlib.ExitStack() as stack:
            for model in () if sync else models:
                stack.enter_context(self.no_sync(model))
            yield

    def no_sync(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Within, gradients stay on this process."""
        no_sync: Callable[[], contextlib.AbstractContextManager[None]]
        no_sync = getattr(model, "no_sync", contextlib.nullcontext)
        return no_sync()

    def unscale_gradients(self) -> None:
        """Take the fp16 scaler's factor out of the gradients, when they are complete."""
        if self.scaler is not None and self.sync_gradients:
            for optimizer in self._optimizers:
                self.scaler.unscale_(optimizer.optimizer)

    def clip_grad_norm_(
        self, parameters: Any, max_norm: float, norm_type: float = 2
    ) -> torch.Tensor:
        """Scale the gradients down to a norm; returns the norm that they had."""
        self.unscale_gradients()
        return nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)

    def clip_grad_value_(self, parameters: Any, clip_value: float) -> None:
        """Cut each gradient to a range."""
        self.unscale_gradients()
        nn.utils.clip_grad_value_(parameters, clip_value)

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in the precision that was asked for."""
        dtype = DTYPES.get(self.mixed_precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            yield

    def gather(self, tensor: Any) -> Any:
        """See `collectives.gather`."""
        return collectives.gather(tensor)

    def gather_for_metrics(self, input_data: Any, use_gather_object: bool = False) -> Any:
        """See `metrics.gather_for_metrics`."""
        return metrics.gather_for_metrics(input_data, use_gather_object)

    def reduce(self, tensor: Any, reduction: str = "sum") -> Any:
        """See `collectives.reduce`."""
        return collectives.reduce(tensor, reduction)

    def pad_across_processes(
        self, tensor: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False
    ) -> Any:
        """See `collectives.pad_across_processes`."""
        return collectives.pad_across_processes(tensor, dim, pad_index, pad_first)

    def unwrap_model(self, model: nn.Module, keep_fp32_wrapper: bool = True) -> nn.Module:
        """The script's own model out of a prepared one."""
        return unwrap_model(model, keep_fp32_wrapper)

    def save(self, obj: Any, f: Any) -> None:
        """torch.save on the main process only."""
        if self.is_main_process:
            torch.save(obj, f)

    def free_memory(self, *objects: Any) -> list[None]:
        """Forget all prepared objects; returns as many Nones as objects were given."""
        for prepared in (self._models, self._optimizers, self._schedulers, self._dataloaders):
            prepared.clear()
        self.step = 0
        return [None] * len(objects)
