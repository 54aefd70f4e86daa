"""The layout of a world: replicas, shards, and the processes that train on a batch together."""

import contextlib
import math
import os
import warnings
from dataclasses import dataclass, fields
from typing import Any

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from runtime.config.arguments import must_be_own, whole
from runtime.config.parsing import naming
from runtime.config.plugins import first
from runtime.config.settings import LayoutSettings, Settings, env_name
from runtime.parallel.handlers import (
    GATHERING,
    TorchContextParallelConfig,
    TorchTensorParallelConfig,
)

_ORDER = ("dp_replicate", "dp_shard", "cp", "sp", "tp")  # the dimensions, outermost first
_SHARING = ("tp", "cp", "sp")  # those along which processes train on the same batches
_BACKENDS = {"cp": "torch", "sp": "deepspeed"}
_HANDLERS = {"tp": TorchTensorParallelConfig, "cp": TorchContextParallelConfig}
_FLATTENED = {  # a mesh that joins dimensions, under Accelerate's name -> the dimensions
    "dp": ("dp_replicate", "dp_shard"),
    "dp_shard_cp": ("dp_shard", "cp"),
    "dp_cp": ("dp_replicate", "dp_shard", "cp"),
}
_NO_SP = "sequence parallelism, which is DeepSpeed's: divide sequences with cp_size instead"


@dataclass
class ParallelismConfig:
    """The sizes of the dimensions of a world; their product is the world size.

    There are `dp_replicate_size` replicas of a model, each in `dp_shard_size` shards. If both are
    above 1 this is hybrid sharding: gradients are reduced among the shards of a replica first.
    `cp_size` processes read the same batches, and each computes on a part of their sequences; they
    share the model as well, so that it has `dp_shard_size * cp_size` shards. Each shard is divided
    again among `tp_size` processes, which read the same batches, too.
    A size that is None is read from the environment (`PARALLELISM_CONFIG_DP_SHARD_SIZE`, ...);
    without a variable it is 1. If all are 1, an Accelerator sets one to the world size:
    `dp_shard_size` with a FullyShardedDataParallelPlugin, otherwise `dp_replicate_size`.

    Attributes:
        dp_replicate_size: the number of replicas of a model, >= 1.
        dp_shard_size: the number of shards of each replica, >= 1. Above 1 it needs a
            FullyShardedDataParallelPlugin.
        tp_size: the number of processes that compute each layer together, >= 1.
        cp_size: the number of processes that share the sequences of a batch, >= 1. Above 1 it
            needs a FullyShardedDataParallelPlugin.
        cp_backend: the implementation of context parallelism: `torch`. None:
            PARALLELISM_CONFIG_CP_BACKEND, or `torch`.
        sp_size: the size of sequence parallelism, which is not supported: 1.
        sp_backend: the implementation of sequence parallelism: `deepspeed`. None:
            PARALLELISM_CONFIG_SP_BACKEND, or `deepspeed`.
        tp_handler: a TorchTensorParallelConfig, which may have a plan; by default one without.
        cp_handler: a TorchContextParallelConfig.
        sp_handler: without effect.

    Raises:
        TypeError: a size is not a whole number.
        ValueError: a size is less than 1, a backend is unknown, a handler has another type, or the
            sizes contradict each other.
        NotImplementedError: `sp_size` is above 1.
    """

    dp_replicate_size: int | None = None
    dp_shard_size: int | None = None
    tp_size: int | None = None
    cp_size: int | None = None
    cp_backend: str | None = None
    sp_size: int | None = None
    sp_backend: str | None = None
    tp_handler: Any = None
    cp_handler: Any = None
    sp_handler: Any = None

    device_mesh = None  # get_device_mesh creates it

    def __post_init__(self) -> None:
        """Replace None by the settings of the environment, and check the sizes."""
        settings = LayoutSettings.from_env(os.environ)
        for name in _ORDER:
            field = f"{name}_size"
            with _naming(field, getattr(self, field), settings):
                size = first(getattr(self, field), getattr(settings, field), 1)
                self._set_size(name, size)
        for name, only in _BACKENDS.items():
            self._set_backend(name, only, settings)
        for name, kind in _HANDLERS.items():
            self._set_handler(name, kind)
        self._check_combination()

    def _set_size(self, parallelism: str, size: int) -> None:
        size = whole(size, "ParallelismConfig()", f"{parallelism}_size", ": write int(...)")
        if size < 1:
            sentence = f"{parallelism}_size must be at least 1, but got {size}"
            raise ValueError(sentence)
        if size > 1 and parallelism == "sp":
            sentence = f"sp_size must be 1, but got {size}: this runtime has no {_NO_SP}"
            raise NotImplementedError(sentence)
        setattr(self, f"{parallelism}_size", size)

    def _set_backend(self, parallelism: str, only: str, settings: LayoutSettings) -> None:
        field = f"{parallelism}_backend"
        with _naming(field, getattr(self, field), settings):
            backend = first(getattr(self, field), getattr(settings, field), only)
            if backend != only:
                sentence = f"{field} must be one of ['{only}'], but got {backend}"
                raise ValueError(sentence)
        setattr(self, field, backend)

    def _set_handler(self, parallelism: str, kind: type) -> None:
        if self._sizes[parallelism] == 1:
            return
        field = f"{parallelism}_handler"
        given = getattr(self, field)
        if given is not None and not isinstance(given, kind):
            sentence = f"{field} must be a {kind.__name__}, but was set to {type(given)}"
            raise ValueError(sentence)
        setattr(self, field, kind() if given is None else given)

    def _check_combination(self) -> None:
        is_divided = self.tp_enabled or self.cp_enabled
        if is_divided and self.dp_replicate_enabled and not self.dp_shard_enabled:
            sentence = (
                "Tensor/Context parallelism (tp/cp_size > 1) cannot be used with pure data "
                f"parallelism (dp_replicate_size is {self.dp_replicate_size} and dp_shard_size is "
                "1): set dp_shard_size > 1, and pass an fsdp_plugin"
            )
            raise ValueError(sentence)

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: getattr(self, f"{name}_size") for name in _ORDER}

    @property
    def total_size(self) -> int:
        """The world size that this layout is for."""
        return self.data_parallel_size * self.non_data_parallel_size

    @property
    def data_parallel_size(self) -> int:
        """The number of processes that train on different batches."""
        return self._sizes["dp_replicate"] * self._sizes["dp_shard"]

    @property
    def non_data_parallel_size(self) -> int:
        """The number of processes that train on each batch together."""
        return math.prod(self._sizes[name] for name in _SHARING)

    @property
    def dp_replicate_enabled(self) -> bool:
        """Whether there are several replicas of a model."""
        return self._sizes["dp_replicate"] > 1

    @property
    def dp_shard_enabled(self) -> bool:
        """Whether models are sharded."""
        return self._sizes["dp_shard"] > 1

    @property
    def tp_enabled(self) -> bool:
        """Whether several processes compute each layer together."""
        return self._sizes["tp"] > 1

    @property
    def cp_enabled(self) -> bool:
        """Whether several processes share the sequences of a batch."""
        return self._sizes["cp"] > 1

    @property
    def sp_enabled(self) -> bool:
        """False: this library does not support sequence parallelism."""
        return self._sizes["sp"] > 1

    @property
    def active_mesh_dims(self) -> list[str]:
        """The names of the dimensions whose size is above 1; those of data parallelism first."""
        return self.dp_dim_names + self.non_dp_dim_names

    @property
    def dp_dim_names(self) -> list[str]:
        """The names of the dimensions along which processes train on different batches."""
        return self._active("dp_replicate", "dp_shard")

    @property
    def non_dp_dim_names(self) -> list[str]:
        """The names of the dimensions along which processes train on the same batches."""
        return self._active(*_SHARING)

    @property
    def dp_shard_cp_dim_names(self) -> list[str]:
        """The names of the dimensions along which a model is sharded."""
        return self._active(*_FLATTENED["dp_shard_cp"])

    @property
    def dp_cp_dim_names(self) -> list[str]:
        """The names of the dimensions along which losses are averaged."""
        return self._active(*_FLATTENED["dp_cp"])

    @property
    def fsdp_dim_names(self) -> list[str]:
        """The names of the meshes over which Accelerate's FSDP2 replicates and shards a model."""
        return [*self._active("dp_replicate"), "dp_shard_cp"]

    def _active(self, *names: str) -> list[str]:
        return [name for name in names if self._sizes[name] > 1]

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with the handlers as dicts."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: getattr(one, "__dict__", one) for name, one in values.items()}

    def _get_mesh(self) -> tuple[Any, ...]:
        """Return the names and the sizes of the dimensions of the mesh; nothing if there are none.

        A private name of Accelerate, which its tests use.
        """
        names = self._active(*_ORDER)
        return (tuple(names), tuple(self._sizes[name] for name in names)) if names else ()

    def build_device_mesh(self, device_type: str) -> DeviceMesh | None:
        """Create a device mesh of the dimensions whose size is above 1, outermost first.

        It also has the joined meshes `dp`, `dp_shard_cp` and `dp_cp`, as far as one of their
        dimensions has a size above 1.

        Args:
            device_type: the device type in torch: `cpu`, `cuda`, ...

        Returns:
            The mesh; None if no size is above 1.
        """
        found = self._get_mesh()
        if not found:
            return None
        names, shape = found
        mesh = init_device_mesh(device_type, shape, mesh_dim_names=names)
        for name, dimensions in _FLATTENED.items():
            if joined := self._active(*dimensions):
                mesh[tuple(joined)]._flatten(name)  # noqa: SLF001  # torch has no public name for it
        return mesh

    def get_device_mesh(self, device_type: str | None = None) -> DeviceMesh | None:
        """Return the device mesh; the first call creates it.

        Args:
            device_type: the device type in torch; required in the first call.

        Raises:
            ValueError: the first call has no device type, or a later call has another one.
        """
        if self.device_mesh is None:
            if device_type is None:
                sentence = "get_device_mesh needs a device_type, such as `cuda`, to create the mesh"
                raise ValueError(sentence)
            self.device_mesh = self.build_device_mesh(device_type)
        elif device_type not in (None, self.device_mesh.device_type):
            sentence = f"the mesh was created for {self.device_mesh.device_type}, not {device_type}"
            raise ValueError(sentence)
        return self.device_mesh

    def model_mesh(self, device_type: str) -> DeviceMesh | None:
        """Return the mesh over which models are divided: replicas, shards, and parts of layers.

        Without context parallelism this is the device mesh. With it, it is another one, in which
        the processes that share sequences are more shards (`dp_shard_cp`): torch shards models over
        one dimension of a mesh.

        Args:
            device_type: the device type in torch: `cpu`, `cuda`, ...

        Returns:
            The mesh; None if no size is above 1.
        """
        if not self.cp_enabled:
            return self.get_device_mesh(device_type)
        names = [*self._active("dp_replicate"), "dp_shard_cp", *self._active("tp")]
        sizes = self._sizes | {"dp_shard_cp": self._sizes["dp_shard"] * self._sizes["cp"]}
        shape = tuple(sizes[name] for name in names)
        return init_device_mesh(device_type, shape, mesh_dim_names=tuple(names))

    def fill(self, *, world_size: int, shards: bool) -> None:
        """Give a layout whose sizes are all 1 those of a world, as Accelerate does.

        Args:
            world_size: the number of processes.
            shards: whether models are sharded over them; otherwise each has a replica.
        """
        if self.total_size == 1:
            self._set_size("dp_shard" if shards else "dp_replicate", world_size)

    def check(self, *, world_size: int, plugin: Any = None, precision: str = "no") -> None:
        """Check that this layout fits a world, and the other settings of an Accelerator.

        Args:
            world_size: the number of processes.
            plugin: the FullyShardedDataParallelPlugin; None if models are not sharded.
            precision: the precision that models compute in.

        Raises:
            ValueError: the world size is not the product of the sizes, or the sizes contradict the
                plugin.
            NotImplementedError: context or tensor parallelism is combined with what it does not
                support.
        """
        if self.total_size != world_size:
            variables = "/".join(LayoutSettings.variable(f"{name}_size") for name in _ORDER)
            sentence = (
                f"ParallelismConfig total_size ({self.total_size}) does not match num_processes "
                f"({world_size}). Please adjust dp_replicate_size/dp_shard_size/tp_size/cp_size/"
                f"sp_size, or {variables}."
            )
            raise ValueError(sentence)
        self._check_sharding(shards=plugin is not None)
        if self.tp_enabled:
            self._check_division(plugin, precision)
        handler = self.cp_handler if self.cp_enabled else None
        if handler is not None and handler.cp_comm_strategy != GATHERING:
            sentence = (
                f"cp_comm_strategy={handler.cp_comm_strategy!r} is not supported: use {GATHERING!r}"
            )
            raise NotImplementedError(sentence)
        self._warn_of_handlers()

    def _check_division(self, plugin: Any, precision: str) -> None:
        unsupported = {
            "mixed_precision='fp16'": (precision == "fp16", "use bf16"),
            "mixed_precision='fp8'": (precision == "fp8", "use bf16"),
            "cpu_ram_efficient_loading": (
                bool(getattr(plugin, "cpu_ram_efficient_loading", False)),
                "load the weights on all ranks",
            ),
        }
        for name, (is_given, instead) in unsupported.items():
            if is_given:
                sentence = f"tp_size={self.tp_size} does not support {name}: {instead}"
                raise NotImplementedError(sentence)

    def _check_sharding(self, *, shards: bool) -> None:
        if shards and self.total_size > 1 and not self.dp_shard_cp_dim_names:
            sentence = (
                "FSDP is enabled but dp_shard_size is 1: leave the fsdp_plugin out, or lower "
                f"dp_replicate_size ({self.dp_replicate_size}) or tp_size ({self.tp_size}) and "
                "raise dp_shard_size"
            )
            raise ValueError(sentence)
        if self.dp_shard_cp_dim_names and not shards:
            name = "dp_shard_size" if self.dp_shard_enabled else "cp_size"
            sentence = (
                f"{name}={getattr(self, name)} needs an fsdp_plugin, or "
                "ACCELERATE_USE_FSDP=true: without it each process would have the whole model"
            )
            raise ValueError(sentence)

    def _warn_of_handlers(self) -> None:
        for name in _SHARING:
            if self._sizes[name] == 1 and getattr(self, f"{name}_handler") is not None:
                sentence = (
                    f"ParallelismConfig.{name}_handler is set, but {name}_size is set to 1. This "
                    "handler will be ignored."
                )
                warnings.warn(sentence, stacklevel=6)  # at the line that creates the Accelerator


def _naming(
    field: str, given: Any, settings: LayoutSettings
) -> contextlib.AbstractContextManager[None]:
    """Return a context in which errors name a field's variable, if its value comes from there."""
    is_usual = given is None and getattr(settings, field) is not None
    return naming(LayoutSettings.variable(field) if is_usual else None)


def layout_of(given: ParallelismConfig | None, settings: Settings) -> ParallelismConfig | None:
    """Return the layout that the script gives, or that of the environment; None if neither does.

    Args:
        given: the layout that the script gives.
        settings: the settings of the environment.

    Raises:
        TypeError: the script gives an object of another type.
    """
    if given is not None:
        must_be_own(given, ParallelismConfig, "Accelerator()", "parallelism_config")
        return given
    if settings.use_parallelism_config:
        return ParallelismConfig()
    for name in (LayoutSettings.variable(f"{name}_size") for name in _ORDER):
        if os.environ.get(name, "1") not in ("", "1"):
            sentence = (
                f"{name}={os.environ[name]} has no effect: set {env_name('use_parallelism_config')}"
                "=true, too, or pass a ParallelismConfig() to the Accelerator"
            )
            warnings.warn(sentence, stacklevel=3)  # at the line that creates the Accelerator
    return None


def rank_in(mesh: DeviceMesh | None, dimension: str) -> int:
    """Return this process' coordinate in a dimension of the mesh; 0 if it has no such dimension."""
    if mesh is None or dimension not in (mesh.mesh_dim_names or ()):
        return 0
    return mesh.get_local_rank(dimension)
