"""The object through which a training script uses this library.

Names, arguments and defaults are those of Accelerate 1.15. Each method hands on to the module that
does the work.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, TypeVarTuple, cast, overload

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from runtime.checkpoint import export
from runtime.checkpoint.checkpointer import Checkpointer
from runtime.checkpoint.formats import save
from runtime.checkpoint.registry import Hook
from runtime.collectives import metrics, tensors
from runtime.collectives.trigger import Trigger
from runtime.config.arguments import check_loss, must_be, must_have, parameters
from runtime.config.enums import DistributedType, FP8BackendType
from runtime.config.handlers import AutocastKwargs, Handlers, KwargsHandler, ProfileKwargs
from runtime.config.plugins import (
    DataLoaderConfiguration,
    GradientAccumulationPlugin,
    ProjectConfiguration,
    accumulation_plugin,
    dataloader_configuration,
    first,
    project_configuration,
)
from runtime.config.settings import LoopSettings, Settings
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard
from runtime.data.prepare import skip_first_batches
from runtime.data.rng import GENERATOR, check_rng_types, set_seed
from runtime.data.uneven import join_uneven_inputs
from runtime.loop.checkpoints import Checkpoints
from runtime.loop.comparison import Comparison
from runtime.loop.epochs import Epochs
from runtime.loop.loop import Loop
from runtime.loop.misspelt import misspelt
from runtime.loop.say import say
from runtime.optim.accumulation import Accumulation
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.optim.scaler import make_scaler, unscale
from runtime.optim.scheduler import AcceleratedScheduler
from runtime.parallel import clipping, containers, mesh, wrap
from runtime.parallel.compile import TorchDynamoPlugin
from runtime.parallel.compile import plugin_of as dynamo_plugin_of
from runtime.parallel.context.choose import sequences_of
from runtime.parallel.mesh import ParallelismConfig
from runtime.parallel.plugin_choice import plugin_of
from runtime.preparation.prepared import Prepared
from runtime.preparation.preparer import Options, Preparer, has_device_map, placements
from runtime.trackers.base import GeneralTracker
from runtime.trackers.choose import filter_trackers
from runtime.trackers.running import Trackers
from runtime.world.gradient_state import GradientState
from runtime.world.profiling import profiled
from runtime.world.roll_call import Collective
from runtime.world.state import AcceleratorState, PartialState
from runtime.world.warn import warn_once

Context = contextlib.AbstractContextManager[None]
Function = TypeVar("Function", bound=Callable[..., Any])
Object = TypeVar("Object")
Objects = TypeVarTuple("Objects")
Loader = TypeVar("Loader", bound=DataLoader[Any])
Model = TypeVar("Model", bound=nn.Module)

_PRECISION = ": Accelerator(mixed_precision='bf16') chooses the precision"
_ALONE = contextlib.nullcontext()  # replaces a Collective if there is one process
_NOT_REPLICATED = (  # kinds of world in which `multi_device` is False
    *(DistributedType.NO, DistributedType.MULTI_CPU),
    *(DistributedType.FSDP, DistributedType.XLA),
)


def _attribute_of(collaborator: str, name: str) -> Any:
    """Return a property that reads and sets an attribute of a collaborator."""
    owner = attrgetter(collaborator)
    return property(
        attrgetter(f"{collaborator}.{name}"),
        lambda self, value: setattr(owner(self), name, value),
    )


class Accelerator:
    """Prepares a script's objects for the processes that train together.

    Attributes:
        state: the state of this process, with the settings of the first Accelerator.
        gradient_state: whether gradients are synchronized, and the active data loader.
        device_placement: whether models and batches are moved to this process' device.
        dataloader_config: how data loaders are prepared.
        rng_types: the random generators that are synchronized at the start of each epoch.
        step_scheduler_with_optimizer: whether schedulers step with their optimizers.
        scaler: the gradient scaler; None unless the precision is `fp16`.
        log_with: the requested trackers whose packages are installed.
        autocast_handler: the arguments of torch.autocast.
        ddp_handler: the arguments of DistributedDataParallel.
        scaler_handler: the arguments of the gradient scaler.
        init_handler: the arguments of init_process_group.
        profile_handler: the arguments of the profiler.
        ao_recipe_handler: how torchao converts models to fp8; None in other precisions.
    """

    def __init__(
        self,
        device_placement: bool = True,
        split_batches: bool | None = None,
        mixed_precision: Literal["no", "fp16", "bf16", "fp8"] | str | None = None,  # noqa: PYI051  # completion offers these; accelerate's enum is a str, too
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
        dynamo_plugin: TorchDynamoPlugin | None = None,
        deepspeed_plugins: Any = None,
        parallelism_config: ParallelismConfig | None = None,
    ) -> None:
        """Join the world. The environment of the job replaces the defaults of the arguments.

        Args:
            device_placement: whether models and batches are moved to this process' device.
            split_batches: whether the script's batch size is divided among the processes; by
                default each process has batches of that size.
            mixed_precision: `no`, `fp16`, `bf16` or `fp8`.
            gradient_accumulation_steps: the number of batches for each optimizer step, >= 1.
            cpu: whether to compute on the CPU even if there is an accelerator.
            dataloader_config: how data loaders are prepared.
            deepspeed_plugin: not supported.
            fsdp_plugin: a FullyShardedDataParallelPlugin, which shards models with FSDP2.
            torch_tp_plugin: not supported.
            megatron_lm_plugin: not supported.
            rng_types: the random generators that are synchronized at the start of each epoch:
                `torch`, `cuda`, `generator`, ...
            log_with: the names of trackers, or tracker objects; `all` for all installed ones.
            project_dir: the directory of checkpoints and logs.
            project_config: the directories, and how checkpoints are named and kept.
            gradient_accumulation_plugin: how gradients are accumulated, in detail.
            step_scheduler_with_optimizer: whether schedulers step with their optimizers.
            kwargs_handlers: arguments for torch's objects, at most one handler of each kind.
            dynamo_backend: the backend of torch.compile.
            dynamo_plugin: how models are compiled, in detail.
            deepspeed_plugins: not supported.
            parallelism_config: the number of replicas of a model, of the shards of each, and of the
                processes that compute each layer together.

        Raises:
            WorldError: the environment does not describe a world, or it cannot be joined.
            ValueError: an argument or an environment variable has a wrong value.
            NotImplementedError: an argument asks for what this library does not support.
        """
        hint = ": cpu=True computes on the CPU, and ACCELERATE_TORCH_DEVICE names another device"
        must_be(
            device_placement,
            (bool, int, type(None)),
            "Accelerator()",
            "device_placement as a bool",
            hint,
        )
        settings = Settings.from_env(os.environ)
        handlers = Handlers.of(kwargs_handlers or [])
        self._set_handlers(handlers)
        is_first = not AcceleratorState.is_made()
        self.state = AcceleratorState(
            mixed_precision,
            cpu,
            dynamo_plugin_of(dynamo_backend, dynamo_plugin),
            first(deepspeed_plugin, deepspeed_plugins) or None,
            plugin_of(fsdp_plugin, settings),
            torch_tp_plugin,
            megatron_lm_plugin,
            mesh.layout_of(parallelism_config, settings),
            _from_accelerator=True,
            ao_recipe=handlers.ao_recipe,
            **(self.init_handler.to_kwargs() if self.init_handler else {}),
        )
        self.ao_recipe_handler = self.state.ao_recipe
        if is_first and settings.seed is not None:
            set_seed(settings.seed)
        self.device_placement = device_placement
        self.dataloader_config = dataloader_configuration(
            dataloader_config, split_batches, settings
        )
        self.rng_types = check_rng_types(first(rng_types, settings.rng_types, [GENERATOR]))
        self.step_scheduler_with_optimizer = step_scheduler_with_optimizer
        self.scaler = make_scaler(self.mixed_precision, self.device, self.scaler_handler)
        plugin = gradient_accumulation_plugin
        self.gradient_state = GradientState(
            accumulation_plugin(plugin, gradient_accumulation_steps, settings)
        )
        project = project_configuration(project_config, project_dir)
        self._compose(project, allows_device_map=bool(settings.bypass_device_map))
        self.log_with = filter_trackers(log_with, self.logging_dir)
        if log_with is not None and not self.log_with:
            warn_once(f"`log_with={log_with}` was passed but no supported tracker is installed.")

    def _set_handlers(self, handlers: Handlers) -> None:
        self.autocast_handler = handlers.autocast
        self.ddp_handler = handlers.ddp
        self.scaler_handler = handlers.scaler
        self.init_handler = handlers.init
        self.profile_handler = handlers.profile

    def _compose(self, project: ProjectConfiguration, *, allows_device_map: bool) -> None:
        """Make the collaborators, bottom up."""
        self._trigger = Trigger(self.device)
        self._trackers = Trackers(is_main=self.is_main_process)
        self._prepared = Prepared()
        self._sequences = sequences_of(self.state)
        self._preparer = Preparer(
            self.state,
            self._prepared,
            sequences=self._sequences,
            allows_device_map=allows_device_map,
        )
        self._accumulation = Accumulation(
            self.gradient_state,
            parameters=self._prepared.parameters,
            scales_in_backward=not self.is_fsdp2,
        )
        self._checkpointer = Checkpointer(
            project,
            state=self.state,
            gradient_state=self.gradient_state,
            prepared=self._prepared,
            accumulation=self._accumulation,
        )

        settings = LoopSettings.from_env(os.environ)
        for sentence in misspelt(os.environ):
            say(sentence)
        self._loop = Loop(
            self.gradient_state,
            self._prepared,
            Checkpoints.of(settings, self._checkpointer, lambda: self.scaler),
            rank=self.process_index,
            size=self.num_processes,
            grace_seconds=settings.grace,
        )
        if self.num_processes > 1:
            every = settings.divergence_every_steps
            self._loop.comparison = Comparison(every, self.gradient_state, self._prepared)

    def __repr__(self) -> str:
        """Return the place in the world, the main settings, and what was prepared."""
        return (
            f"Accelerator(rank {self.process_index} of {self.num_processes}, device={self.device}, "
            f"mixed_precision={self.mixed_precision!r}, "
            f"gradient_accumulation_steps={self.gradient_accumulation_steps}, "
            f"prepared: {self._prepared})"
        )

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Accelerator":
        """Return this object: there is one state, and its models and loaders are the script's."""
        return self

    # ---- The world

    @property
    def _process(self) -> PartialState:
        """The state; it has the attributes of PartialState, too, unless a script sets others."""
        return cast("PartialState", self.state)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._process.device

    @property
    def distributed_type(self) -> DistributedType:
        """The kind of world: one process, several on CPUs, several on GPUs, sharded, ..."""
        return self._process.distributed_type

    @property
    def num_processes(self) -> int:
        """The number of processes in the world."""
        return self._process.num_processes

    @property
    def process_index(self) -> int:
        """The rank of this process."""
        return self._process.process_index

    @property
    def local_process_index(self) -> int:
        """The rank of this process among those of its pod or machine."""
        return self._process.local_process_index

    @property
    def use_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self._process.use_distributed

    @property
    def multi_device(self) -> bool:
        """Whether several accelerators train, each with the whole model."""
        return self.use_distributed and self.distributed_type not in _NOT_REPLICATED

    @property
    def is_main_process(self) -> bool:
        """Whether this process has rank 0."""
        return self._process.is_main_process

    @property
    def is_local_main_process(self) -> bool:
        """Whether this process is the first of its pod or machine."""
        return self._process.is_local_main_process

    @property
    def is_last_process(self) -> bool:
        """Whether this process has the highest rank."""
        return self._process.is_last_process

    @property
    def should_save_model(self) -> bool:
        """Whether this process saves a model that all processes have."""
        return self.is_local_main_process

    def wait_for_everyone(self) -> None:
        """Wait until all processes have called this."""
        self._process.wait_for_everyone()

    def on_main_process(self, function: Function | None = None) -> Function:
        """Decorate a function that runs on the main process only; elsewhere it returns None.

        Args:
            function: the function.
        """
        return self._process.on_main_process(function)

    def on_local_main_process(self, function: Function | None = None) -> Function:
        """Decorate a function that runs on the first process of each pod or machine only.

        Args:
            function: the function.
        """
        return self._process.on_local_main_process(function)

    def on_last_process(self, function: Function) -> Function:
        """Decorate a function that runs on the process with the highest rank only.

        Args:
            function: the function.
        """
        return self._process.on_last_process(function)

    def on_process(
        self, function: Function | None = None, process_index: int | None = None
    ) -> Function:
        """Decorate a function that runs on the process with one rank only.

        Args:
            function: the function; None in `@accelerator.on_process(process_index=1)`.
            process_index: the rank.
        """
        return self._process.on_process(function, process_index)

    def on_local_process(
        self, function: Function | None = None, local_process_index: int | None = None
    ) -> Function:
        """Decorate a function that runs on the process with one local rank only.

        Args:
            function: the function; None in `@accelerator.on_local_process(local_process_index=1)`.
            local_process_index: the local rank.
        """
        return self._process.on_local_process(function, local_process_index)

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Let the main process run the body of the context before the others."""
        with self._process.main_process_first():
            yield

    @contextlib.contextmanager
    def local_main_process_first(self) -> Iterator[None]:
        """Let the first process of each pod or machine run the body before its others."""
        with self._process.local_main_process_first():
            yield

    @contextlib.contextmanager
    def split_between_processes(self, inputs: Any, apply_padding: bool = False) -> Iterator[Any]:
        """Give each process its share of some inputs.

        If the length cannot be divided evenly, the first processes get one element more.

        Args:
            inputs: a list, tensor, array or dataset, or a mapping of these; the same on all
                processes. The share of a dataset is a `torch.utils.data.Subset`.
            apply_padding: whether to repeat the last element, so that all shares have one length.

        Raises:
            ValueError: the values of a mapping differ in length.
            TypeError: the inputs have no order or no length.
        """
        with self._process.split_between_processes(inputs, apply_padding) as share:
            yield share

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process of each pod or machine only."""
        self._process.print(*args, **kwargs)

    # ---- Settings

    @property
    def mixed_precision(self) -> str:
        """The precision that models compute in: `no`, `fp16`, `bf16` or `fp8`."""
        return self.state.mixed_precision

    @property
    def split_batches(self) -> bool:
        """Whether the script's batch size is divided among the processes."""
        return self.dataloader_config.split_batches

    @property
    def dispatch_batches(self) -> bool | None:
        """Whether rank 0 reads the batches for all processes; None: for iterable datasets only."""
        return self.dataloader_config.dispatch_batches

    @property
    def even_batches(self) -> bool:
        """Whether the last batches are filled, so that all processes have the same number."""
        return self.dataloader_config.even_batches

    @even_batches.setter
    def even_batches(self, even_batches: bool) -> None:
        self.dataloader_config.even_batches = even_batches

    @property
    def use_seedable_sampler(self) -> bool:
        """Whether the order of an epoch depends on the seed and the epoch only."""
        return self.dataloader_config.use_seedable_sampler

    @property
    def non_blocking(self) -> bool:
        """Whether batches are copied to the device without waiting."""
        return self.dataloader_config.non_blocking

    @property
    def use_stateful_dataloader(self) -> bool:
        """The setting of the configuration; every prepared data loader has a state."""
        return self.dataloader_config.use_stateful_dataloader

    @property
    def project_configuration(self) -> ProjectConfiguration:
        """The directories of the project, and how checkpoints are named and kept."""
        return self._checkpointer.project

    @project_configuration.setter
    def project_configuration(self, configuration: ProjectConfiguration) -> None:
        self._checkpointer.project = configuration

    @property
    def project_dir(self) -> Any:
        """The directory of checkpoints."""
        return self.project_configuration.project_dir

    @property
    def logging_dir(self) -> Any:
        """The directory of trackers."""
        return self.project_configuration.logging_dir

    @property
    def save_iteration(self) -> int:
        """The number of the next checkpoint."""
        return self.project_configuration.iteration

    @property
    def fp8_backend(self) -> FP8BackendType:
        """AO, which is torchao, with fp8; otherwise NO."""
        return FP8BackendType.NO if self.ao_recipe_handler is None else FP8BackendType.AO

    @property
    def fp8_enabled(self) -> bool:
        """Whether models compute in fp8."""
        return self.mixed_precision == "fp8"

    @property
    def deepspeed_plugin(self) -> None:
        """None: this library does not support DeepSpeed."""

    # ---- Layout of the world

    @property
    def is_fsdp2(self) -> bool:
        """Whether models are sharded with FSDP2."""
        return self.state.is_fsdp2

    @property
    def is_composable_parallelism_enabled(self) -> bool:
        """Whether models are sharded with FSDP2."""
        return self.is_fsdp2

    @property
    def parallelism_config(self) -> ParallelismConfig | None:
        """The layout of the world; None for data parallelism only."""
        layout: ParallelismConfig | None = self.state.parallelism_config
        return layout

    @property
    def torch_device_mesh(self) -> DeviceMesh | None:
        """The device mesh of the layout."""
        device_mesh: DeviceMesh | None = self.state.device_mesh
        return device_mesh

    @property
    def data_parallel_rank(self) -> int:
        """The index of the replica that this process has a shard of."""
        return self._rank_in("dp_replicate")

    @property
    def data_parallel_shard_rank(self) -> int:
        """The index of this process' shard in its replica of the model."""
        return self._rank_in("dp_shard")

    @property
    def tensor_parallel_rank(self) -> int:
        """The index of this process among those that compute each layer together.

        Raises:
            RuntimeError: there is no `parallelism_config`.
        """
        return self._rank_in("tp")

    def _rank_in(self, dimension: str) -> int:
        if self.parallelism_config is None:
            sentence = f"{dimension} is not configured. Set `parallelism_config` first."
            raise RuntimeError(sentence)
        return mesh.rank_in(self.torch_device_mesh, dimension)

    @property
    def pipeline_parallel_rank(self) -> NoReturn:
        """Not supported, as in Accelerate.

        Raises:
            NotImplementedError: always.
        """
        sentence = "pipeline parallelism is not supported by this runtime"
        raise NotImplementedError(sentence)

    @property
    def context_parallel_rank(self) -> int:
        """The index of this process among those that share the sequences of a batch.

        Raises:
            RuntimeError: there is no `parallelism_config`.
        """
        return self._rank_in("cp")

    def maybe_context_parallel(
        self,
        buffers: list[torch.Tensor] | None = None,
        buffer_seq_dims: list[int] | None = None,
        no_restore_buffers: set[torch.Tensor] | None = None,
    ) -> Context:
        """Return a context for a step in which this process computes on its part of each sequence.

        Within it, each buffer has only the positions of this process, one piece from the beginning
        of the sequence and one from its end; and `scaled_dot_product_attention` attends to the
        positions of all processes. Call `backward` within it, too. It does nothing if `cp_size`
        is 1.

        Args:
            buffers: all tensors of the batch that have positions: inputs, labels, positions, ...
            buffer_seq_dims: for each, the dimension of its positions, whose number must be a
                multiple of `2 * cp_size`.
            no_restore_buffers: those that stay divided after the context; a subset of `buffers`.

        Raises:
            RuntimeError: the context is within another one, or a model has computed on a part of
                the sequences without attention to the others.
            TypeError: a buffer is no tensor.
            ValueError: the arguments contradict each other, or a buffer cannot be divided.
        """
        if self._sequences is None:
            return contextlib.nullcontext()
        kept = no_restore_buffers or ()
        return self._sequences.divided(buffers or [], buffer_seq_dims or [], kept)

    # ---- Prepare

    @overload
    def prepare(self, obj: Object, /, *, device_placement: list[bool] | None = None) -> Object: ...

    @overload
    def prepare(
        self, *args: *Objects, device_placement: list[bool] | None = None
    ) -> tuple[*Objects]: ...

    def prepare(  # type: ignore[misc]  # mypy does not see that these arguments are any objects
        self, *args: Any, device_placement: list[bool] | None = None
    ) -> Any:
        """Prepare models, optimizers, schedulers and data loaders.

        If an object inside a list, tuple or dict would not be prepared, so that each process would
        train it separately, this is an error with several processes and a warning with one.

        Args:
            *args: the script's objects, each as a separate argument. Pass a model before its first
                backward, and a sharded model together with its optimizer.
            device_placement: for each object, whether it is moved to the device.

        Returns:
            The prepared objects, in the order of the arguments; one object alone is not in a
            tuple. Objects of other kinds, and those that were prepared before, are unchanged.

        Raises:
            ValueError: `device_placement` does not have one entry per object, or an object is
                inside a list, tuple or dict.
        """
        self._preparer.check_arguments(args)
        places = placements(args, device_placement, self.device_placement)
        with self._preparer.following(args):
            found = [self._prepare_one(*pair) for pair in zip(args, places, strict=True)]
        # Schedulers come last: each looks for its optimizer among the prepared ones.
        found = [
            self.prepare_scheduler(one) if isinstance(one, LRScheduler) else one for one in found
        ]
        self._loop.prepared()
        return found[0] if len(found) == 1 else tuple(found)

    def _prepare_one(self, obj: Any, device_placement: bool) -> Any:
        if isinstance(obj, DataLoader):
            return self.prepare_data_loader(obj, device_placement)
        if isinstance(obj, nn.Module):
            return self.prepare_model(obj, device_placement)
        if isinstance(obj, Optimizer):
            return self.prepare_optimizer(obj, device_placement)
        return obj

    def _options(self) -> Options:
        """Return the current attributes that decide how objects are prepared."""
        return Options(
            device=self.device,
            device_placement=self.device_placement,
            rng_types=self.rng_types,
            step_scheduler_with_optimizer=self.step_scheduler_with_optimizer,
            dataloader_config=self.dataloader_config,
            scaler=self.scaler,
            autocast_handler=self.autocast_handler,
            ddp_handler=self.ddp_handler,
        )

    def prepare_model(
        self,
        model: Model,
        device_placement: bool | None = None,
        evaluation_mode: bool = False,
    ) -> Model:
        """Move a model to the device, and average its gradients over all processes.

        Args:
            model: the script's model.
            device_placement: whether it is moved; by default what the Accelerator was given.
            evaluation_mode: whether the model will have no gradients.

        Raises:
            ValueError: `device_map` has placed the model on several devices, and there are several
                processes; or tensor parallelism cannot divide the model.
        """
        must_be(model, nn.Module, "prepare_model()", "a model")
        prepared: Any = self._preparer.model(
            model,
            self._options(),
            device_placement,
            evaluation_mode,
            is_placed=self.verify_device_map(model),
        )
        return prepared  # type: ignore[no-any-return]  # the model in its container behaves as the model

    def prepare_data_loader(
        self,
        data_loader: Loader,
        device_placement: bool | None = None,
        slice_fn_for_dispatch: Any = None,
    ) -> DataLoaderShard | DataLoaderDispatcher:
        """Make a data loader that gives this process its own batches.

        Args:
            data_loader: the script's loader, the same on all processes.
            device_placement: whether batches are moved to the device; by default what the
                Accelerator was given.
            slice_fn_for_dispatch: how rank 0 divides a batch that it reads for all.
        """
        must_have(data_loader, "dataset", "prepare_data_loader()", "a DataLoader")
        return self._preparer.data_loader(
            data_loader, self._options(), device_placement, slice_fn_for_dispatch
        )

    def prepare_optimizer(
        self, optimizer: Optimizer, device_placement: bool | None = None
    ) -> AcceleratedOptimizer:
        """Make an optimizer that steps at the end of an accumulation.

        Args:
            optimizer: the script's optimizer.
            device_placement: whether its state is moved to the device of its parameters; by
                default what the Accelerator was given.

        Raises:
            ValueError: models are sharded, and the model of this optimizer is not yet: sharding
                would replace its parameters. Pass both to `prepare`.
        """
        must_have(optimizer, "param_groups", "prepare_optimizer()", "an optimizer")
        return self._preparer.optimizer(optimizer, self._options(), device_placement)

    def prepare_scheduler(self, scheduler: Any) -> AcceleratedScheduler:
        """Make a scheduler that steps with its optimizer.

        Args:
            scheduler: one of torch.optim.lr_scheduler, or an object with the same methods.
        """
        must_have(scheduler, "step", "prepare_scheduler()", "a scheduler")
        return self._preparer.scheduler(scheduler, self._options())

    def skip_first_batches(self, dataloader: Any, num_batches: int = 0) -> Any:
        """Return a data loader like another, without its first batches.

        Args:
            dataloader: a data loader, prepared or not.
            num_batches: the number of this process' batches to leave out.
        """
        return skip_first_batches(dataloader, num_batches)

    def unwrap_model(
        self,
        model: nn.Module,
        keep_fp32_wrapper: bool = True,
        keep_torch_compile: bool = True,
    ) -> nn.Module:
        """Return the script's own model out of a prepared one.

        Args:
            model: a model, prepared or not.
            keep_fp32_wrapper: whether its forward keeps computing in mixed precision.
            keep_torch_compile: whether it stays compiled.
        """
        return wrap.extract_model_from_parallel(model, keep_fp32_wrapper, keep_torch_compile)

    def verify_device_map(self, model: nn.Module) -> bool:
        """Whether Hugging Face's `device_map` has placed a model on several devices.

        Args:
            model: the model.
        """
        return has_device_map(model)

    def free_memory(self, *objects: Any) -> list[None]:
        """Forget all prepared objects.

        Returns:
            One None for each argument, to be assigned to the script's variables.
        """
        self._preparer.clear()
        self._loop.forget()
        self.step = 0
        return [None] * len(objects)

    def clear(self, *objects: Any) -> list[None]:
        """Forget all prepared objects; the same as `free_memory`."""
        return self.free_memory(*objects)

    # Accelerate has these as attributes, which scripts read and set.
    _models: list[nn.Module] = _attribute_of("_prepared", "models")
    _optimizers: list[AcceleratedOptimizer] = _attribute_of("_prepared", "optimizers")
    _schedulers: list[AcceleratedScheduler] = _attribute_of("_prepared", "schedulers")
    _dataloaders: list[Any] = _attribute_of("_prepared", "dataloaders")
    _custom_objects: list[Any] = _attribute_of("_checkpointer.registry", "objects")
    _save_model_state_pre_hook: Any = _attribute_of("_checkpointer.registry", "save_hooks")
    _load_model_state_pre_hook: Any = _attribute_of("_checkpointer.registry", "load_hooks")

    # ---- Train

    def epochs(self, total: int) -> Epochs:
        """Return the epochs that are left: `for epoch in accelerator.epochs(10):`.

        If ACCELERATEDJOB_CHECKPOINT_DIR is set, checkpoints are written there during the training,
        and the first call loads the newest one, so that the loop goes on at the epoch and batch
        where the job has stopped. Call this after `prepare`. Without that variable this is
        `range(total)`.

        A script with several phases calls this once for each. An epoch that is resumed does not
        repeat training passes that were complete.

        Args:
            total: the number of epochs, >= 0.

        Returns:
            An iterator over the numbers of the epochs, from 0 or from the epoch to go on with.

        Raises:
            TypeError: the number is not a whole number.
            ValueError: the number is negative, or a checkpoint does not fit the script.
            SystemExit: the job was asked to stop; raised by the iterator and by data loaders, with
                exit code 143, when a checkpoint is complete.
        """
        epochs = self._loop.epochs(total)
        self._preparer.watch_data(resumes=self._loop.has_checkpoints)
        return epochs

    @property
    def epoch(self) -> int:
        """The current epoch of `epochs`, from 0."""
        return self._loop.epoch

    @property
    def completed_steps(self) -> int:
        """The number of optimizer steps since the job began, also over restarts.

        Steps of several optimizers for the same batch count once.
        """
        return self._loop.steps

    def step_done(self) -> None:
        """Note an optimizer step that did not go through a prepared optimizer.

        Call this after a step of an optimizer that was not prepared, or of a whole training step
        that is replayed as a CUDA graph. Without it such steps are not counted, and no checkpoint
        is taken behind them. A step of a prepared optimizer needs no call.
        """
        self._loop.step_done()

    @property
    def should_stop(self) -> bool:
        """Whether the job was asked to stop; becomes true on all processes at the same batch.

        For scripts that save checkpoints by themselves, instead of `epochs`. Once it was true, the
        job counts this process as stopped and not as done, also if its exit code is 0.
        """
        return self._loop.should_stop

    @property
    def step(self) -> int:
        """The number of batches since the last end of a data loader."""
        return self._accumulation.step

    @step.setter
    def step(self, step: int) -> None:
        self._accumulation.step = step

    @property
    def gradient_accumulation_steps(self) -> int:
        """The number of batches for each optimizer step."""
        return self.gradient_state.num_steps

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int) -> None:
        self.gradient_state.plugin_kwargs["num_steps"] = steps

    @property
    def sync_gradients(self) -> bool:
        """Whether the current batch ends an accumulation."""
        return self.gradient_state.sync_gradients

    @sync_gradients.setter
    def sync_gradients(self, sync_gradients: bool) -> None:
        self.gradient_state.sync_gradients = sync_gradients

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether an optimizer skipped its last step because a gradient was not finite."""
        return any(optimizer.step_was_skipped for optimizer in self._prepared.optimizers)

    def accumulate(self, *models: nn.Module) -> Context:
        """Return a context for one batch of an accumulation.

        Gradients are reduced, and optimizers step, once in `gradient_accumulation_steps` batches.
        The last batch of a data loader always ends an accumulation.

        Args:
            *models: prepared models whose gradients are accumulated.
        """
        for model in models:
            must_be(model, nn.Module, "accumulate()", "prepared models")
        return self._accumulation.accumulate(models, self.no_sync)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Compute the gradients of a loss, divided by the number of accumulated batches.

        If the end of a data loader cuts an accumulation short, gradients are the mean over the
        batches that it has; see `GradientAccumulationPlugin.mean_of_last_window`.

        Args:
            loss: the loss of one batch, a scalar.
            **kwargs: arguments of `torch.Tensor.backward`.

        Raises:
            TypeError: the loss is not a tensor.
            RuntimeError: the loss has several elements, or depends on no parameter.
            ValueError: there are several processes, and a prepared optimizer trains parameters of
                no prepared model; or tensor parallelism divides a model in such a way that
                processes would train a weight differently.
        """
        check_loss(loss, **kwargs)
        self._loop.begin_backward(loss)
        loss = self._accumulation.weighted(loss)
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        with Collective("backward") if self.use_distributed else _ALONE:  # it reduces gradients
            loss.backward(**kwargs)  # type: ignore[no-untyped-call]  # torch has not typed it
        self.gradient_state.steps.backward()
        self._preparer.check_averaged()
        self._preparer.check_data()
        if self.sync_gradients:
            self._preparer.check_equal()

    @contextlib.contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        """Do not reduce the gradients of a model inside the context.

        Args:
            model: the prepared model.
        """
        must_be(model, nn.Module, "no_sync()", "a prepared model")
        with containers.container_of(self.state).no_sync(model):
            yield

    @staticmethod
    @contextlib.contextmanager
    def trigger_sync_in_backward(model: nn.Module) -> Iterator[None]:
        """Reduce gradients in the next backward, although forward ran under `no_sync`.

        Args:
            model: a prepared model; one that is not DistributedDataParallel stays as it is.
        """
        with containers.trigger_sync_in_backward(model):
            yield

    def unscale_gradients(self, optimizer: Any = None) -> None:
        """Divide the gradients by the factor of the fp16 scaler.

        Args:
            optimizer: an optimizer or a list of them; by default all that are prepared.
        """
        chosen = self._prepared.optimizers if optimizer is None else optimizer
        unscale(self.scaler, chosen if isinstance(chosen, list | tuple) else [chosen])

    def _complete_gradients(self, given: Any, call: str) -> list[torch.Tensor]:
        """Return the parameters, whose gradients now are what a step would use."""
        found = parameters(given, call)
        if self.sync_gradients:
            self.gradient_state.window.complete(found)
            self.unscale_gradients(self._prepared.optimizers_of(found))
        return found

    def clip_grad_norm_(
        self, parameters: Any, max_norm: float, norm_type: float = 2
    ) -> torch.Tensor:
        """Scale gradients down to a norm.

        Between the batches of an accumulation gradients are incomplete: call this where
        `sync_gradients` is true.

        Args:
            parameters: a tensor, or an iterable of tensors.
            max_norm: the largest norm of all gradients together.
            norm_type: the order of the norm.

        Returns:
            The norm before scaling, a scalar.
        """
        found = self._complete_gradients(parameters, "clip_grad_norm_()")
        return clipping.clip_grad_norm_(found, max_norm, norm_type)

    def clip_grad_value_(self, parameters: Any, clip_value: float) -> None:
        """Limit each gradient element to `[-clip_value, clip_value]`.

        As `clip_grad_norm_`, call this where `sync_gradients` is true.

        Args:
            parameters: a tensor, or an iterable of tensors.
            clip_value: the largest absolute value of an element, >= 0.
        """
        found = self._complete_gradients(parameters, "clip_grad_value_()")
        nn.utils.clip_grad_value_(found, clip_value)

    @contextlib.contextmanager
    def autocast(self, autocast_handler: AutocastKwargs | None = None) -> Iterator[None]:
        """Compute in mixed precision inside the context.

        Args:
            autocast_handler: replaces the handler that the Accelerator was given.
        """
        kinds = (AutocastKwargs, type(None))
        must_be(autocast_handler, kinds, "autocast()", "an AutocastKwargs", _PRECISION)
        with wrap.autocast(self.state, autocast_handler or self.autocast_handler):
            yield

    @contextlib.contextmanager
    def join_uneven_inputs(
        self, joinables: list[Any], even_batches: bool | None = None
    ) -> Iterator[None]:
        """Let processes with more batches than others train on, without waiting for the others.

        Sharded models cannot be joined, since every batch needs all processes: a warning says so.

        Args:
            joinables: prepared models.
            even_batches: replaces the setting of the prepared data loaders inside the context.
        """
        hint = ": write a list, [model]" if isinstance(joinables, nn.Module) else ""
        must_be(joinables, (list, tuple), "join_uneven_inputs()", "a list of models", hint)
        with join_uneven_inputs(
            joinables,
            self._prepared.dataloaders,
            state=self.state,
            usual=self.even_batches,
            even_batches=even_batches,
        ):
            yield

    # ---- Communicate

    def gather(self, tensor: Object) -> Object:
        """Concatenate the tensors of all processes along their first dimension.

        Args:
            tensor: a tensor, or a list, tuple or dict of tensors, of one shape on all processes.

        Returns:
            The same structure on all processes; a scalar becomes a vector.
        """
        gathered: Object = tensors.gather(tensor)
        return gathered

    @overload
    def gather_for_metrics(
        self, input_data: Object, use_gather_object: Literal[False] = False
    ) -> Object: ...

    @overload
    def gather_for_metrics(self, input_data: Any, use_gather_object: bool) -> Any: ...

    def gather_for_metrics(self, input_data: Any, use_gather_object: bool = False) -> Any:
        """Gather, and remove the samples that were added to fill the last batch.

        Args:
            input_data: tensors as for `gather`, or any object that can be pickled.
            use_gather_object: whether to gather objects also if the data has tensors.

        Returns:
            The gathered tensors; or a list of the objects of all processes. Of processes that have
            read the same batch there is one result; or, behind a forward in
            `maybe_context_parallel`, one for each part of its sequences.
        """
        sequences = self._sequences
        parts = sequences.size if sequences is not None and sequences.has_parts else 1
        return metrics.gather_for_metrics(input_data, use_gather_object, parts=parts)

    def reduce(
        self,
        tensor: Object,
        reduction: tensors.Reduction = "sum",
        scale: float = 1.0,
    ) -> Object:
        """Reduce the tensors of all processes.

        Args:
            tensor: a tensor, or a list, tuple or dict of tensors, of one shape on all processes.
            reduction: `sum`, `mean` or `max`; `none` sums, as in Accelerate.
            scale: ignored, as Accelerate ignores it on all devices but XLA.

        Returns:
            The same structure on all processes.
        """
        reduced: Object = tensors.reduce(tensor, reduction, scale)
        return reduced

    def pad_across_processes(
        self, tensor: Object, dim: int = 0, pad_index: int = 0, pad_first: bool = False
    ) -> Object:
        """Pad the tensors of each process to the largest size among all processes.

        Args:
            tensor: a tensor, or a list, tuple or dict of tensors.
            dim: the dimension to pad.
            pad_index: the value to pad with.
            pad_first: whether to pad at the start instead of the end.
        """
        padded: Object = tensors.pad_across_processes(tensor, dim, pad_index, pad_first)
        return padded

    def set_trigger(self) -> None:
        """Raise a flag that `check_trigger` sees on all processes."""
        self._trigger.set()

    def check_trigger(self) -> bool:
        """Whether any process has called `set_trigger`; must be called by all. Lowers the flag."""
        return self._trigger.check()

    # ---- Checkpoints

    def register_for_checkpointing(self, *objects: Any) -> None:
        """Add objects whose states are saved and loaded with each checkpoint.

        Args:
            *objects: objects with `state_dict` and `load_state_dict`.

        Raises:
            ValueError: an object lacks one of these methods.
        """
        self._checkpointer.registry.add(*objects)

    def register_save_state_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call a function before a checkpoint is written.

        Args:
            hook: `hook(models, weights, output_dir)`; it may remove weights from the list and
                write them itself.

        Returns:
            A handle whose `remove()` removes the hook.
        """
        return self._checkpointer.registry.add_save_hook(hook)

    def register_load_state_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call a function before a checkpoint is loaded.

        Args:
            hook: `hook(models, input_dir)`; it may remove models from the list and load them
                itself.

        Returns:
            A handle whose `remove()` removes the hook.
        """
        return self._checkpointer.registry.add_load_hook(hook)

    def save_state(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        safe_serialization: bool = True,
        **save_model_func_kwargs: Any,  # noqa: ARG002  # accelerate's: for other engines
    ) -> Path:
        """Write a checkpoint of all prepared and registered objects. All processes must call this.

        The checkpoint is complete or absent, also if the process is killed; until it is complete,
        an older one of the same name stays. With automatic naming the next free number is taken,
        and old checkpoints are removed once the new one is complete.

        Files of an older checkpoint in the same directory that the new one does not have are
        removed; other files stay. Hooks get the temporary directory in which the checkpoint is
        written. The directory and what is in it must not be symbolic links; directories above it
        may be.

        The checkpoint is complete on return. With `ProjectConfiguration(write_behind=True)` only
        the states have been copied then, and `wait_for_checkpoint` returns when it is complete.

        Args:
            output_dir: the directory; not needed with automatic naming.
            safe_serialization: whether weights are saved as safetensors, if that is installed.
            **save_model_func_kwargs: ignored.

        Returns:
            The directory of the checkpoint.

        Raises:
            ValueError: there is no directory and no automatic naming, or the directory is a link.
            CheckpointError: this checkpoint, or the one before, cannot be written.
        """
        return self._checkpointer.save(
            output_dir, scaler=self.scaler, safe_serialization=safe_serialization
        )

    def wait_for_checkpoint(self) -> None:
        """Wait until the last `save_state` is complete. All processes must call this.

        The next `save_state`, `load_state` and `end_training` wait, too. So does the end of the
        interpreter, which can only print an error.

        Raises:
            CheckpointError: it could not be written; raised once, on all processes.
        """
        self._checkpointer.wait()

    def load_state(
        self,
        input_dir: str | os.PathLike[str] | None = None,
        load_kwargs: dict[str, Any] | None = None,
        *,
        verify: bool | None = None,
        **load_model_func_kwargs: Any,
    ) -> None:
        """Load a checkpoint. All processes must call this; their number may have changed.

        Args:
            input_dir: the directory; with automatic naming by default the newest complete one.
            load_kwargs: arguments of torch.load.
            verify: whether to read every byte and compare checksums; otherwise only names and
                sizes are compared. By default true for the newest checkpoint, which others can
                replace, and false for a named one.
            **load_model_func_kwargs: arguments of the models' load_state_dict, and
                `map_location`: `cpu` or `on_device`.

        Raises:
            ValueError: there is no checkpoint, or it is damaged.
            RuntimeError: the number of registered objects differs from the saved one.
            UnpicklingError: a file contains an object that only its own code could create.
            CheckpointError: the last `save_state` could not be written.
            RuntimeError: `epochs` resumes here.
        """
        self._loop.must_not_resume()
        self._checkpointer.load(
            input_dir,
            scaler=self.scaler,
            load_kwargs=load_kwargs,
            verify=verify,
            map_location=load_model_func_kwargs.pop("map_location", None),
            **load_model_func_kwargs,
        )

    def save(self, obj: Any, f: Any, safe_serialization: bool = False) -> None:
        """Save an object on the main process.

        With `ProjectConfiguration(save_on_each_node=True)` the first process of each machine does.

        Args:
            obj: an object that torch.save accepts; for safetensors a dict of tensors.
            f: the path of the file.
            safe_serialization: whether to save as safetensors.
        """
        each = self.project_configuration.save_on_each_node
        save(obj, f, save_on_each_node=each, safe_serialization=safe_serialization)

    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> dict[str, Any]:
        """Return the weights of a model.

        Args:
            model: a model, prepared or not.
            unwrap: whether names are those of the script's own model, as a sharded model's always
                are.

        Returns:
            The whole weights. Those of a sharded model are gathered by all processes, which must
            all call this, and returned on the main process only.
        """
        must_be(model, nn.Module, "get_state_dict()", "a model")
        return export.state_dict_of(model, is_sharded=self.state.divides_models, unwrap=unwrap)

    def save_model(
        self,
        model: nn.Module,
        save_directory: str | os.PathLike[str],
        max_shard_size: int | str = "10GB",
        safe_serialization: bool = True,
    ) -> None:
        """Write a model's weights as Hugging Face reads them: in one file, or several and an index.

        Weights that an earlier `save_model` has left in the directory are removed; other files
        stay, including those of a checkpoint of `save_state`.

        Args:
            model: a model, prepared or not.
            save_directory: the directory.
            max_shard_size: the largest size of a file, in bytes or as `5GB` or `200MiB`.
            safe_serialization: whether to save as safetensors, if that is installed.

        Raises:
            RuntimeError: a parameter is on the meta device and has no values.
        """
        must_be(model, nn.Module, "save_model()", "a model")
        export.must_have_weights(model)
        export.save_weights(
            self.get_state_dict(model),
            save_directory,
            write=self.save,
            max_shard_size=max_shard_size,
            safe_serialization=safe_serialization,
            save_on_each_node=self.project_configuration.save_on_each_node,
        )

    # ---- Trackers and traces

    @property
    def trackers(self) -> list[GeneralTracker]:
        """The running trackers."""
        return self._trackers.running

    @trackers.setter
    def trackers(self, trackers: list[GeneralTracker]) -> None:
        self._trackers.running = trackers

    def init_trackers(
        self,
        project_name: str,
        config: dict[str, Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Start a run with each tracker of `log_with`.

        Args:
            project_name: the name of the run.
            config: the hyperparameters of the run.
            init_kwargs: tracker name -> further arguments for that tracker.
        """
        self._trackers.start(
            self.log_with, project_name, self.logging_dir, config, init_kwargs or {}
        )

    def get_tracker(self, name: str, unwrap: bool = False) -> Any:
        """Return a running tracker.

        Args:
            name: the name of the tracker.
            unwrap: whether to return the object of the tracker's own package.

        Raises:
            ValueError: no tracker has that name. Raised on the main process; other processes get a
                tracker that does nothing.
        """
        return self._trackers.get(name, unwrap=unwrap)

    def log(
        self,
        values: dict[str, Any],
        step: int | None = None,
        log_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Pass metrics to all trackers.

        Args:
            values: metric name -> value.
            step: the step of the run that the values belong to.
            log_kwargs: tracker name -> further arguments for that tracker.
        """
        must_be(values, Mapping, "log()", "a dict of metrics", ": give it a name")
        if self.log_with and not self._trackers.running:
            warn_once("log() was called before init_trackers(), so no tracker records the metrics")
        self._loop.note_metrics(values)
        self._trackers.log(values, step, log_kwargs or {})

    def end_training(self) -> None:
        """Wait for the last checkpoint, end the runs of all trackers, and leave the world.

        Raises:
            CheckpointError: the last checkpoint could not be written.
        """
        try:
            self.wait_for_checkpoint()
        finally:
            self._trackers.finish()
            self.state.destroy_process_group()

    @contextlib.contextmanager
    def profile(
        self, profile_handler: ProfileKwargs | None = None
    ) -> Iterator[torch.profiler.profile]:
        """Profile the body of the context, and write each rank's trace if a directory is set.

        Args:
            profile_handler: replaces the handler that the Accelerator was given.
        """
        handler = profile_handler or self.profile_handler or ProfileKwargs()
        with profiled(handler, self._process) as profiler:
            yield profiler
