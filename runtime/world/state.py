"""The state of this process: its rank, its world, its device and its precision."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed

from runtime.config import left_out
from runtime.config.enums import DistributedType
from runtime.config.handlers import AORecipeKwargs
from runtime.config.parsing import naming
from runtime.config.precision import choose_precision, recipe_of
from runtime.config.settings import Settings, env_name
from runtime.world import last_words, reserve, roll_call
from runtime.world.device import check_own_gpu, choose, named, place
from runtime.world.process_group import check_backend, join, joined_world, leave, set_timeout
from runtime.world.roles import ProcessControl
from runtime.world.shared import Shared


def is_initialized() -> bool:
    """Whether an Accelerator has created the state."""
    return AcceleratorState.is_made()


def _begin(env: Mapping[str, str]) -> None:
    """Do what comes first in a training process."""
    reserve.check(env)
    last_words.install(env)


class PartialState(Shared, ProcessControl):
    """The world that this process belongs to, and the device that it computes on.

    Attributes:
        device: the device of this process.
        distributed_type: the kind of world: one process, several on CPUs, several on GPUs, ...
        backend: the backend of torch.distributed; None in a world of one process.
        num_processes: the world size.
        process_index: the rank of this process.
        local_process_index: the rank of this process among those of its pod or machine.
        batch_span: the number of processes that train on each batch together, which the layout
            of an Accelerator sets.
        debug: whether shapes are compared before each collective.
        fork_launched: whether a notebook's launcher has started this process.
    """

    _known_attrs = (
        *("_cpu", "_mixed_precision", "_shared_state", "backend", "batch_span", "debug", "device"),
        *("distributed_type", "fork_launched", "local_process_index", "num_processes"),
        "process_index",
    )

    device: torch.device
    distributed_type: DistributedType
    backend: str | None
    num_processes: int
    process_index: int
    local_process_index: int
    batch_span: int

    def __init__(self, cpu: bool = False, **kwargs: Any) -> None:
        """Join the world, unless this process has joined it already.

        Args:
            cpu: whether to compute on the CPU even if there is an accelerator.
            **kwargs: arguments of `torch.distributed.init_process_group`: `backend`, `timeout`.

        Raises:
            WorldError: the environment does not describe a world, or it cannot be joined.
            ValueError: an environment variable has a wrong value.
        """
        super().__init__()
        if self.initialized:
            return
        _begin(os.environ)
        world, settings = joined_world(), Settings.from_env(os.environ)
        kind = choose(cpu=cpu or bool(settings.use_cpu), distributed=world.size > 1)
        wanted, asked = settings.torch_device, kwargs.pop("backend", None)
        with naming(env_name("torch_device") if wanted else None):
            device = named(wanted) if wanted else place(kind, world.local_rank)
        if asked is None and settings.distributed_backend is not None and world.size > 1:
            with naming(env_name("distributed_backend")):
                check_backend(settings.distributed_backend)
        backend = asked or settings.distributed_backend or kind.backend
        if world.size > 1:
            if not distributed.is_initialized():  # else the script has chosen the devices
                check_own_gpu(backend, world.local_size, os.environ)
            join(world, backend, kwargs)
            if settings.collective_timeout is not None and "timeout" not in kwargs:
                set_timeout(settings.collective_timeout)
        alone = world.size == 1
        self.device = device
        self.distributed_type = DistributedType.NO if alone else kind.distributed_type
        self.backend = None if alone else backend
        self.num_processes = world.size
        self.process_index = world.rank
        self.local_process_index = world.local_rank
        self.batch_span = 1
        self.debug = bool(settings.debug_mode)
        self.fork_launched = bool(settings.fork_launched)
        self._cpu = cpu

    def __repr__(self) -> str:
        backend = f"  Backend: {self.backend}" if self.backend else ""
        return (
            f"Distributed environment: {self.distributed_type}{backend}\n"
            f"Num processes: {self.num_processes}\nProcess index: {self.process_index}\n"
            f"Local process index: {self.local_process_index}\nDevice: {self.device}\n"
        )

    @property
    def default_device(self) -> torch.device:
        """The device that a single process would compute on."""
        return torch.device(choose(cpu=False, distributed=False).name)

    def set_device(self) -> None:
        """Do nothing; the device is set when the world is joined."""

    @property
    def communication_device(self) -> torch.device:
        """The device of tensors that can be sent: the CPU if the backend includes gloo."""
        return torch.device("cpu") if "gloo" in (self.backend or "gloo") else self.device

    def wait_for_everyone(self) -> None:
        """Wait until all processes have called this."""
        if self.num_processes > 1:
            on_cpu = self.device.type == "cpu"
            with roll_call.Collective("wait_for_everyone"):
                distributed.barrier(device_ids=None if on_cpu else [self.device.index])

    def destroy_process_group(self, group: Any = None) -> None:
        """Destroy a process group.

        Args:
            group: the process group; by default the one of the world. A process of a notebook's
                launcher leaves the world only when it ends.
        """
        if group is None and not self.fork_launched:
            leave()
        elif group is not None:
            distributed.destroy_process_group(group)


class AcceleratorState(Shared):
    """The state of this process, with the settings of the first Accelerator.

    It has the attributes of the PartialState, too.

    Attributes:
        mixed_precision: the precision that models compute in: `no`, `fp16`, `bf16` or `fp8`.
        ao_recipe: how torchao converts models to fp8; None in other precisions.
        dynamo_plugin: how models are compiled.
        fsdp_plugin: how models are sharded; None if they are not sharded.
        parallelism_config: the layout of the world; None for data parallelism only.
        device_mesh: the device mesh of the layout; None without a layout.
        model_mesh: the device mesh over which models are divided; None without a layout.
    """

    _known_attrs = (
        *PartialState._known_attrs,  # noqa: SLF001  # its attributes are found here, too
        *("deepspeed_plugin", "fsdp_plugin", "megatron_lm_plugin", "dynamo_plugin"),
        *("divides_models", "is_fsdp2", "is_tensor_parallel", "mixed_precision", "saves_parts"),
    )

    mixed_precision: str

    def __init__(
        self,
        mixed_precision: str | None = None,
        cpu: bool = False,
        dynamo_plugin: Any = None,
        deepspeed_plugin: Any = None,
        fsdp_plugin: Any = None,
        torch_tp_plugin: Any = None,
        megatron_lm_plugin: Any = None,
        parallelism_config: Any = None,
        _from_accelerator: bool = False,
        *,
        ao_recipe: AORecipeKwargs | None = None,
        **kwargs: Any,
    ) -> None:
        """Create the state; once it exists, check that the arguments agree with it.

        Args:
            mixed_precision: `no`, `fp16`, `bf16` or `fp8`; by default what the environment says.
            cpu: whether to compute on the CPU even if there is an accelerator.
            dynamo_plugin: how models are compiled.
            deepspeed_plugin: not supported.
            fsdp_plugin: how models are sharded.
            torch_tp_plugin: not supported.
            megatron_lm_plugin: not supported.
            parallelism_config: the layout of the world.
            _from_accelerator: whether an Accelerator creates the state.
            ao_recipe: how torchao converts models to fp8.
            **kwargs: arguments of `torch.distributed.init_process_group`.

        Raises:
            ValueError: the arguments differ from those of the existing state, the precision is not
                available, or no Accelerator has created the state.
            NotImplementedError: a plugin that is not supported was given.
        """
        super().__init__()
        left_out.refuse(
            {
                "DeepSpeed": deepspeed_plugin,
                "Megatron-LM": megatron_lm_plugin,
                "TorchTensorParallelPlugin (deprecated in Accelerate)": torch_tp_plugin,
            }
        )
        wanted = None if mixed_precision is None else str(mixed_precision).lower()
        if self.initialized:
            self._check_same(wanted, cpu)
            self._check_same_recipe(ao_recipe)
            if not PartialState.is_made():  # only the PartialState was reset
                self._partial = PartialState(cpu, **kwargs)
                self._lay_out()
            return
        if not _from_accelerator:
            sentence = (
                "Please make sure to properly initialize your accelerator via "
                "`accelerator = Accelerator()` before using any functionality of this library."
            )
            raise ValueError(sentence)
        partial = PartialState(cpu, **kwargs)
        try:
            self.mixed_precision = choose_precision(wanted, partial.device, ao_recipe)
            self.ao_recipe = recipe_of(ao_recipe, self.mixed_precision)
            self.dynamo_plugin = dynamo_plugin
            self.fsdp_plugin = fsdp_plugin
            self.parallelism_config = parallelism_config
            self.device_mesh: Any = None
            self.model_mesh: Any = None
            self._partial = partial
            self._lay_out()
        except BaseException:
            self._shared_state.clear()  # the next Accelerator must not get what was refused
            raise

    def _lay_out(self) -> None:
        """Create the device mesh and turn on sharding, if there are several processes."""
        partial, plugin, layout = self._partial, self.fsdp_plugin, self.parallelism_config
        if layout is not None:
            size, precision = partial.num_processes, self.mixed_precision
            layout.fill(world_size=size, shards=plugin is not None)
            layout.check(world_size=size, plugin=plugin, precision=precision)
        if not partial.use_distributed:
            return
        if plugin is not None and self.mixed_precision != "no":
            plugin.set_mixed_precision(self.mixed_precision)
        if layout is not None:
            self.device_mesh = layout.get_device_mesh(partial.device.type)
            self.model_mesh = layout.model_mesh(partial.device.type)
            partial.batch_span = layout.non_data_parallel_size
        if plugin is not None:
            self._whole_type = partial.distributed_type
            partial.distributed_type = DistributedType.FSDP

    @property
    def saves_parts(self) -> bool:
        """Whether each process writes its part of a model to checkpoints."""
        return self.fsdp_plugin is not None or self.is_tensor_parallel

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the PartialState."""
        if name.startswith("__") or "_partial" not in self._shared_state:
            self._refuse(name)
        try:
            return getattr(self._shared_state["_partial"], name)
        except AttributeError:
            self._refuse(name)

    def __repr__(self) -> str:
        return f"{self._partial!r}\nMixed precision type: {self.mixed_precision}\n"

    def destroy_process_group(self, group: Any = None) -> None:
        """Destroy a process group, also after this state was reset.

        Args:
            group: the process group; by default the one of the world.
        """
        PartialState().destroy_process_group(group)

    @property
    def deepspeed_plugin(self) -> None:
        """None: this library does not support DeepSpeed."""

    @property
    def is_fsdp2(self) -> bool:
        """Whether models are sharded with FSDP2."""
        return bool(self.distributed_type == DistributedType.FSDP)

    @property
    def is_tensor_parallel(self) -> bool:
        """Whether several processes compute each layer together."""
        layout = self.parallelism_config
        return layout is not None and layout.tp_enabled

    @property
    def divides_models(self) -> bool:
        """Whether each process has a part of a model only: sharded, tensor parallel or both."""
        return self.is_fsdp2 or self.is_tensor_parallel

    def _check_same(self, mixed_precision: str | None, cpu: bool) -> None:
        flag = f"mixed_precision={mixed_precision!r}"
        if cpu and self.device.type != "cpu":
            flag = "cpu=True"
        elif mixed_precision in (None, self.mixed_precision):
            return
        sentence = (
            "AcceleratorState has already been initialized and cannot be changed, restart your "
            f"runtime completely and pass `{flag}` to `Accelerator()`. It has "
            f"mixed_precision={self.mixed_precision!r} and computes on {self.device}."
        )
        raise ValueError(sentence)

    def _check_same_recipe(self, recipe: AORecipeKwargs | None) -> None:
        if recipe in (None, self.ao_recipe):
            return
        sentence = (
            "the first Accelerator of this process has chosen how models are converted to fp8: "
            f"pass the same AORecipeKwargs, or none. It is {self.ao_recipe}, got {recipe}"
        )
        raise ValueError(sentence)

    @classmethod
    def _reset_state(cls, reset_partial_state: bool = False) -> None:
        """Reset the state, for tests and notebooks.

        Args:
            reset_partial_state: whether to reset the PartialState, too.
        """
        if "_whole_type" in cls._shared_state:  # the next Accelerator need not shard models
            cls._shared_state["_partial"].distributed_type = cls._shared_state["_whole_type"]
        if PartialState.is_made():  # nor divide them
            PartialState().batch_span = 1
        super()._reset_state()
        if reset_partial_state:
            PartialState._reset_state()  # noqa: SLF001  # a private name of Accelerate
