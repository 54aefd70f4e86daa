"""The facade that a training script uses; it composes the other rooms and decides nothing.

Names, arguments and defaults are those of Accelerate 1.15.
"""

import os
from typing import Any

import torch

from runtime.config.handlers import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProfileKwargs,
)
from runtime.config.plugins import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    first,
)
from runtime.config.settings import Settings
from runtime.data.rng import GENERATOR, check_rng_types, set_seed
from runtime.exporting import Exporting
from runtime.gathering import Gathering
from runtime.parallel.compile import TorchDynamoPlugin
from runtime.parallel.mesh import layout_of
from runtime.parallel.plugin_choice import plugin_of
from runtime.preparing import Preparing
from runtime.reporting import Reporting
from runtime.restoring import Restoring
from runtime.stepping import Stepping
from runtime.trackers.choose import filter_trackers
from runtime.uneven import Uneven
from runtime.world.gradient_state import GradientState
from runtime.world.state import AcceleratorState
from runtime.world.warn import warn_once

_HANDLERS: dict[type[KwargsHandler], str] = {  # what a handler is for -> the attribute that has it
    AutocastKwargs: "autocast_handler",
    DistributedDataParallelKwargs: "ddp_handler",
    GradScalerKwargs: "scaler_handler",
    InitProcessGroupKwargs: "init_handler",
    ProfileKwargs: "profile_handler",
}


class Accelerator(Preparing, Stepping, Uneven, Gathering, Reporting, Restoring, Exporting):
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
        self.dataloader_config = _loading(dataloader_config, split_batches, settings)
        self.project_configuration = _project(project_config, project_dir)
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
        self._begin_registering()
        self._begin_saving()
        self._begin_preparing()

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


def _loading(
    config: DataLoaderConfiguration | None, split_batches: bool | None, settings: Settings
) -> DataLoaderConfiguration:
    filled = (config or DataLoaderConfiguration()).filled(settings)
    if split_batches is not None:
        filled.split_batches = split_batches
    return filled


def _project(config: ProjectConfiguration | None, project_dir: Any) -> ProjectConfiguration:
    config = config or ProjectConfiguration(project_dir)
    if project_dir is not None and config.project_dir is None:
        config.set_directories(project_dir)
    return config
