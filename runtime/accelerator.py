"""The facade that a training script uses; it composes the other rooms and decides nothing.

Names, arguments and defaults are those of Accelerate 1.15.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from runtime import collectives
from runtime.control import ProcessControl
from runtime.data_loader import DataLoaderShard, prepare_data_loader
from runtime.device import DistributedType
from runtime.model import DTYPES, prepare_model, unwrap_model
from runtime.nested import leaves, map_tensors
from runtime.optimizer import AcceleratedOptimizer
from runtime.rng import GENERATOR, check_rng_types, set_seed
from runtime.scheduler import AcceleratedScheduler
from runtime.settings import Settings
from runtime.state import AcceleratorState, GradientState


@dataclass(kw_only=True)
class DataLoaderConfiguration:
    """How data loaders are prepared; None leaves it to the job's environment, then the default."""

    split_batches: bool | None = None  # default False
    even_batches: bool | None = None  # default True
    use_seedable_sampler: bool | None = None  # default False
    data_seed: int | None = None  # default: rank 0's torch seed
    non_blocking: bool = False


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


class Accelerator(ProcessControl):
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
        first = not AcceleratorState.is_made()
        self.state = AcceleratorState(mixed_precision, cpu)
        if first and settings.seed is not None:
            set_seed(settings.seed)
        config = dataloader_config or DataLoaderConfiguration()
        self.device_placement = device_placement
        self.split_batches = _first(
            split_batches, config.split_batches, settings.split_batches, False
        )
        self.even_batches = _first(config.even_batches, settings.even_batches, True)
        self.use_seedable_sampler = _first(
            config.use_seedable_sampler, settings.use_seedable_sampler, False
        )
        self.data_seed = config.data_seed
        self.non_blocking = config.non_blocking
        self.rng_types = check_rng_types(_first(rng_types, settings.rng_types, (GENERATOR,)))
        self.step_scheduler_with_optimizer = step_scheduler_with_optimizer
        self.gradient_state = GradientState(
            _first(gradient_accumulation_steps, settings.gradient_accumulation_steps, 1)
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
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.state.device
        return device

    @property
    def distributed_type(self) -> DistributedType:
        """What kind of world this is."""
        kind: DistributedType = self.state.distributed_type
        return kind

    @property
    def num_processes(self) -> int:  # type: ignore[override]  # an attribute there
        """Processes of the world."""
        return int(self.state.num_processes)

    @property
    def process_index(self) -> int:  # type: ignore[override]  # an attribute there
        """This process' rank."""
        return int(self.state.process_index)

    @property
    def local_process_index(self) -> int:  # type: ignore[override]  # an attribute there
        """This process' rank on its machine, or in its pod."""
        return int(self.state.local_process_index)

    @property
    def mixed_precision(self) -> str:
        """`no`, `fp16` or `bf16`."""
        return self.state.mixed_precision

    @property
    def gradient_accumulation_steps(self) -> int:
        """Batches for each optimizer step."""
        return self.gradient_state.num_steps

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int) -> None:
        self.gradient_state.num_steps = steps

    @property
    def sync_gradients(self) -> bool:
        """Whether this batch ends an accumulation."""
        return self.gradient_state.sync_gradients

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether an optimizer left its last step out because a gradient was not finite."""
        return any(optimizer.step_was_skipped for optimizer in self._optimizers)

    def wait_for_everyone(self) -> None:
        """Return when all processes have come here."""
        self.state.wait_for_everyone()

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
            device_placement=_first(device_placement, self.device_placement),
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
        prepared = prepare_data_loader(
            data_loader,
            self.device,
            split_batches=self.split_batches,
            put_on_device=_first(device_placement, self.device_placement),
            rng_types=self.rng_types,
            even_batches=self.even_batches,
            use_seedable_sampler=self.use_seedable_sampler,
            data_seed=self.data_seed,
            non_blocking=self.non_blocking,
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
                stack.enter_context(self._without_reduction(model))
            yield

    @contextlib.contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        """Within, gradients stay on this process."""
        with self._without_reduction(model):
            yield

    def _without_reduction(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
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
        """Gather, and leave out what was added to the last batch to even it out.

        Args:
            input_data: tensors, however nested; or a list of any objects, one a sample.
            use_gather_object: treat tensors as objects, too: they may differ in shape.
        """
        data = input_data
        plain = all(isinstance(leaf, torch.Tensor) for leaf in leaves(data))
        if use_gather_object or not plain:
            gathered = collectives.gather_object(data)
        else:
            gathered = collectives.gather(data)
        keep = self.gradient_state.remainder
        if not self.gradient_state.end_of_dataloader or keep <= 0 or not self.use_distributed:
            return gathered
        if isinstance(gathered, list) and not plain:
            return gathered[:keep]
        return map_tensors(lambda tensor: tensor[:keep], gathered)

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
