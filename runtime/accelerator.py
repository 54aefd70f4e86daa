"""The facade that a training script uses; it composes the other rooms and decides nothing.

Names, arguments and defaults are those of Accelerate 1.15.
"""

import os
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from runtime.compilation import TorchDynamoPlugin, compile_model
from runtime.configuration import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    first,
)
from runtime.data_loader import (
    DataLoaderDispatcher,
    DataLoaderShard,
    prepare_data_loader,
    skip_first_batches,
)
from runtime.gathering import Gathering
from runtime.handlers import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProfileKwargs,
)
from runtime.model import extract_model_from_parallel, prepare_model
from runtime.optimizer import AcceleratedOptimizer
from runtime.options import Options
from runtime.reporting import Reporting
from runtime.rng import GENERATOR, check_rng_types, set_seed
from runtime.saving import Saving
from runtime.scheduler import AcceleratedScheduler
from runtime.settings import Settings
from runtime.sharding import Sharding, layout_of, plugin_of
from runtime.state import AcceleratorState, GradientState
from runtime.stepping import Stepping
from runtime.tracking import filter_trackers
from runtime.warn import warn_once

Prepared = TypeVar("Prepared")
PREPARED = "_is_accelerate_prepared"  # Accelerate's mark on what was prepared
_HANDLERS: dict[type[KwargsHandler], str] = {  # what a handler is for -> the attribute that has it
    AutocastKwargs: "autocast_handler",
    DistributedDataParallelKwargs: "ddp_handler",
    GradScalerKwargs: "scaler_handler",
    InitProcessGroupKwargs: "init_handler",
    ProfileKwargs: "profile_handler",
}


class Accelerator(Stepping, Gathering, Reporting, Saving, Sharding, Options):
    """Prepares a script's objects for the world that it runs in."""

    def __init__(
        self,
        device_placement: bool = True,
        split_batches: bool | None = None,
        mixed_precision: str | None = None,
        gradient_accumulation_steps: int = 1,
        cpu: bool = False,
        dataloader_config: DataLoaderConfiguration | None = None,
        deepspeed_plugin: Any = None,
        fsdp_plugin: Any = None,
        torch_tp_plugin: Any = None,
        megatron_lm_plugin: Any = None,
        rng_types: list[Any] | None = None,
        log_with: Any = None,
        project_dir: Any = None,
        project_config: ProjectConfiguration | None = None,
        gradient_accumulation_plugin: GradientAccumulationPlugin | None = None,
        step_scheduler_with_optimizer: bool = True,
        kwargs_handlers: list[KwargsHandler] | None = None,
        dynamo_backend: Any = None,
        dynamo_plugin: Any = None,
        deepspeed_plugins: Any = None,
        parallelism_config: Any = None,
    ) -> None:
        """Join the world. What is left at its default here is the job's, by its environment.

        Args:
            device_placement: put models and batches on this process' device.
            split_batches: the script's batch size is that of all processes together.
            mixed_precision: `no`, `fp16` or `bf16`.
            gradient_accumulation_steps: batches for each optimizer step.
            cpu: compute on the CPU whatever else there is.
            dataloader_config: how data loaders are prepared.
            deepspeed_plugin: refused; that engine is left out.
            fsdp_plugin: how models are sharded.
            torch_tp_plugin: refused.
            megatron_lm_plugin: refused.
            rng_types: random generators that all processes set alike at the start of each epoch.
            log_with: trackers.
            project_dir: where checkpoints and logs go.
            project_config: the same, in detail.
            gradient_accumulation_plugin: the same as `gradient_accumulation_steps`, in detail.
            step_scheduler_with_optimizer: schedulers follow their optimizers.
            kwargs_handlers: for torch's own objects; one of a kind.
            dynamo_backend: what torch.compile compiles models with.
            dynamo_plugin: the same, in detail.
            deepspeed_plugins: refused.
            parallelism_config: how the world is laid out.

        Raises:
            WorldError: the environment does not describe a world, or it cannot be joined.
            ValueError: an argument or a variable of the environment is wrong.
            NotImplementedError: an engine that this runtime leaves out.
        """
        settings = Settings.from_env(os.environ)
        self._set_handlers(kwargs_handlers or [])
        is_first = not AcceleratorState.is_made()
        self.state = AcceleratorState(
            mixed_precision,
            cpu,
            _dynamo(dynamo_backend, dynamo_plugin),
            first(deepspeed_plugin, deepspeed_plugins, False) or None,
            plugin_of(fsdp_plugin, settings),
            torch_tp_plugin,
            megatron_lm_plugin,
            layout_of(parallelism_config, settings),
            _from_accelerator=True,
            **(self.init_handler.to_kwargs() if self.init_handler else {}),
        )
        if is_first and settings.seed is not None:
            set_seed(settings.seed)
        config = dataloader_config or DataLoaderConfiguration()
        self.dataloader_config = config.filled(settings)
        if split_batches is not None:
            self.dataloader_config.split_batches = split_batches
        self.project_configuration = project_config or ProjectConfiguration(project_dir)
        if project_dir is not None and self.project_dir is None:
            self.project_configuration.set_directories(project_dir)
        self.trackers = []
        self.log_with = filter_trackers(log_with, self.logging_dir)
        if log_with is not None and not self.log_with:
            warn_once(f"`log_with={log_with}` was passed but no supported tracker is installed.")
        self.device_placement = device_placement
        self.rng_types = check_rng_types(first(rng_types, settings.rng_types, [GENERATOR]))
        self.step_scheduler_with_optimizer = step_scheduler_with_optimizer
        self.gradient_state = GradientState(
            _accumulation(gradient_accumulation_steps, gradient_accumulation_plugin, settings)
        )
        self._bypasses_device_map = bool(settings.bypass_device_map)
        self.step = 0
        self.scaler = self._scaler()
        self._begin_saving()
        self._models: list[nn.Module] = []
        self._optimizers: list[AcceleratedOptimizer] = []
        self._schedulers: list[AcceleratedScheduler] = []
        self._dataloaders: list[DataLoaderShard | DataLoaderDispatcher] = []

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Accelerator":
        """Itself: there is one state, and the models and loaders are the script's."""
        return self

    def _set_handlers(self, handlers: list[KwargsHandler]) -> None:
        self.autocast_handler: AutocastKwargs | None = None
        self.ddp_handler: DistributedDataParallelKwargs | None = None
        self.scaler_handler: GradScalerKwargs | None = None
        self.init_handler: InitProcessGroupKwargs | None = None
        self.profile_handler: ProfileKwargs | None = None
        kinds = [type(handler) for handler in handlers]
        for kind, handler in zip(kinds, handlers, strict=True):
            if kind not in _HANDLERS:
                sentence = f"Unsupported kwargs handler passed: {handler}"
                raise ValueError(sentence)
            if kinds.count(kind) > 1:
                sentence = f"You can only pass one {kind} in `kwargs_handlers`."
                raise ValueError(sentence)
            setattr(self, _HANDLERS[kind], handler)

    def _scaler(self) -> torch.amp.GradScaler | None:
        if self.mixed_precision != "fp16":
            return None
        options = self.scaler_handler.to_kwargs() if self.scaler_handler else {}
        return torch.amp.GradScaler(self.device.type, **options)

    def prepare(self, *args: Any, device_placement: list[bool] | None = None) -> Any:
        """Prepare models, optimizers, schedulers and data loaders; return them in the same order.

        Anything else comes back as it is; so does what was prepared before.

        Args:
            *args: the script's objects, each once; an optimizer's model with or before it.
            device_placement: for each object, instead of the Accelerator's own.

        Raises:
            ValueError: as many places as objects are needed.
        """
        places = device_placement or [self.device_placement] * len(args)
        if len(places) != len(args):
            sentence = f"device_placement must be given for {len(args)} objects, got {len(places)}"
            raise ValueError(sentence)
        with self._optimizers_following(args):
            prepared = [
                self._prepare_one(one, place) for one, place in zip(args, places, strict=True)
            ]
        # Schedulers last: they look for their optimizer among the prepared ones.
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
            return self.prepare_optimizer(one, device_placement)
        return one

    def prepare_model(
        self,
        model: nn.Module,
        device_placement: bool | None = None,
        evaluation_mode: bool = False,
    ) -> nn.Module:
        """Place a model and average its gradients over all processes.

        Raises:
            ValueError: it was placed on several devices already, in a world of several processes.
        """
        if _is_prepared(model):
            return model
        is_placed = self.verify_device_map(model)
        if is_placed and self.use_distributed and not self._bypasses_device_map:
            sentence = (
                "You can't train a model that has been loaded with `device_map='auto'` in any "
                "distributed mode: load it without `device_map`."
            )
            raise ValueError(sentence)
        prepared = prepare_model(
            model,
            state=self.state,
            device_placement=first(device_placement, self.device_placement) and not is_placed,
            evaluation_mode=evaluation_mode,
            autocast_handler=self.autocast_handler,
            ddp_handler=self.ddp_handler,
        )
        return _marked(compile_model(prepared, self.state.dynamo_plugin), self._models)

    def prepare_data_loader(
        self,
        data_loader: DataLoader[Any],
        device_placement: bool | None = None,
        slice_fn_for_dispatch: Any = None,
    ) -> DataLoaderShard | DataLoaderDispatcher:
        """Make a data loader that gives this process its own batches."""
        if isinstance(data_loader, DataLoaderShard | DataLoaderDispatcher) and _is_prepared(
            data_loader
        ):
            return data_loader
        config = self.dataloader_config
        prepared = prepare_data_loader(
            data_loader,
            self.device,
            split_batches=self.split_batches,
            put_on_device=first(device_placement, self.device_placement),
            rng_types=list(self.rng_types),
            dispatch_batches=config.dispatch_batches,
            even_batches=self.even_batches,
            slice_fn_for_dispatch=slice_fn_for_dispatch,
            use_seedable_sampler=config.use_seedable_sampler,
            data_seed=config.data_seed,
            non_blocking=config.non_blocking,
            use_stateful_dataloader=config.use_stateful_dataloader,
            shuffle=config.shuffle,
        )
        return _marked(prepared, self._dataloaders)

    def prepare_optimizer(
        self, optimizer: torch.optim.Optimizer, device_placement: bool | None = None
    ) -> AcceleratedOptimizer:
        """Make an optimizer that steps when an accumulation ends."""
        if isinstance(optimizer, AcceleratedOptimizer):
            return optimizer
        place = first(device_placement, self.device_placement)
        return _marked(AcceleratedOptimizer(optimizer, place, self.scaler), self._optimizers)

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
        return _marked(prepared, self._schedulers)

    def skip_first_batches(self, dataloader: Any, num_batches: int = 0) -> Any:
        """See `data_loader.skip_first_batches`."""
        return skip_first_batches(dataloader, num_batches)

    def unwrap_model(
        self,
        model: nn.Module,
        keep_fp32_wrapper: bool = True,
        keep_torch_compile: bool = True,
    ) -> nn.Module:
        """The script's own model out of a prepared one."""
        return extract_model_from_parallel(model, keep_fp32_wrapper, keep_torch_compile)

    def free_memory(self, *objects: Any) -> list[None]:
        """Forget all prepared objects; returns as many Nones as objects were given."""
        for prepared in (self._models, self._optimizers, self._schedulers, self._dataloaders):
            prepared.clear()
        self.step = 0
        return [None] * len(objects)

    def clear(self, *objects: Any) -> list[None]:
        """The same as `free_memory`."""
        return self.free_memory(*objects)


def _dynamo(backend: Any, plugin: TorchDynamoPlugin | None) -> TorchDynamoPlugin:
    if backend is not None and plugin is not None:
        sentence = "You cannot pass in both `dynamo_plugin` and `dynamo_backend`."
        raise ValueError(sentence)
    return plugin or TorchDynamoPlugin(backend=backend)


def _accumulation(
    steps: int, plugin: GradientAccumulationPlugin | None, settings: Settings
) -> GradientAccumulationPlugin:
    if plugin is not None and steps != 1:
        sentence = (
            "You can only pass one of `gradient_accumulation_steps` and "
            "`gradient_accumulation_plugin`."
        )
        raise ValueError(sentence)
    if plugin is not None:
        return plugin
    answer = settings.gradient_accumulation_steps if steps == 1 else None
    return GradientAccumulationPlugin(num_steps=first(answer, steps))


def _is_prepared(one: Any) -> bool:
    return bool(getattr(one, PREPARED, False))


def _marked(one: Prepared, kept: list[Any]) -> Prepared:
    """Remember that this was prepared."""
    setattr(one, PREPARED, True)
    kept.append(one)
    return one
