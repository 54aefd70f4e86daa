"""The layout of a world: the number of replicas of a model, and the number of shards of each."""

import os
from dataclasses import dataclass
from typing import Any

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from runtime.config.parsing import naming
from runtime.config.plugins import first
from runtime.config.settings import LayoutSettings, Settings

_ORDER = ("dp_replicate", "dp_shard", "cp", "sp", "tp")  # the dimensions, outermost first
_LEFT_OUT = {  # dimension -> its name and the alternative
    "cp": "context parallelism: shard the model with dp_shard_size instead",
    "sp": "sequence parallelism, which is DeepSpeed's: shard the model with dp_shard_size instead",
    "tp": (
        "tensor parallelism: its ranks need the same batches, which prepared data loaders do not "
        "give; shard the model with dp_shard_size, or call torch's parallelize_module in the script"
    ),
}


@dataclass
class ParallelismConfig:
    """The sizes of the dimensions of a world; their product is the world size.

    There are `dp_replicate_size` replicas of a model, each in `dp_shard_size` shards. If both are
    above 1 this is hybrid sharding: gradients are reduced among the shards of a replica first.
    A size that is None is read from the environment (`PARALLELISM_CONFIG_DP_SHARD_SIZE`, ...);
    without a variable it is 1.

    Attributes:
        dp_replicate_size: the number of replicas of a model, >= 1.
        dp_shard_size: the number of shards of each replica, >= 1. Above 1 it needs a
            FullyShardedDataParallelPlugin.
        tp_size: the size of tensor parallelism, which is not supported: 1.
        cp_size: the size of context parallelism, which is not supported: 1.
        cp_backend: without effect. None: PARALLELISM_CONFIG_CP_BACKEND, or `torch`.
        sp_size: the size of sequence parallelism, which is not supported: 1.
        sp_backend: without effect. None: PARALLELISM_CONFIG_SP_BACKEND, or `deepspeed`.
        tp_handler: without effect.
        cp_handler: without effect.
        sp_handler: without effect.

    Raises:
        ValueError: a size is less than 1.
        NotImplementedError: the size of a dimension that is not supported is above 1.
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
            size, usual = getattr(self, field), getattr(settings, field)
            is_usual = size is None and usual is not None
            with naming(LayoutSettings.variable(field) if is_usual else None):
                self._set_size(name, first(size, usual, 1))
        self.cp_backend = self.cp_backend or settings.cp_backend or "torch"
        self.sp_backend = self.sp_backend or settings.sp_backend or "deepspeed"

    def _set_size(self, parallelism: str, size: int) -> None:
        if size < 1:
            sentence = f"{parallelism}_size must be at least 1, but got {size}"
            raise ValueError(sentence)
        if size > 1 and parallelism in _LEFT_OUT:
            sentence = (
                f"{parallelism}_size must be 1, but got {size}: this runtime has no "
                f"{_LEFT_OUT[parallelism]}"
            )
            raise NotImplementedError(sentence)
        setattr(self, f"{parallelism}_size", size)

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
        """The number of processes that share each batch: 1."""
        return self._sizes["tp"] * self._sizes["cp"] * self._sizes["sp"]

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
        """False: this library does not support tensor parallelism."""
        return self._sizes["tp"] > 1

    @property
    def cp_enabled(self) -> bool:
        """False: this library does not support context parallelism."""
        return self._sizes["cp"] > 1

    @property
    def sp_enabled(self) -> bool:
        """False: this library does not support sequence parallelism."""
        return self._sizes["sp"] > 1

    @property
    def active_mesh_dims(self) -> list[str]:
        """The names of the dimensions whose size is above 1, outermost first."""
        return [name for name, size in self._sizes.items() if size > 1]

    @property
    def dp_dim_names(self) -> list[str]:
        """The names of the dimensions along which processes train on different batches."""
        return self.active_mesh_dims

    @property
    def fsdp_dim_names(self) -> list[str]:
        """The names of the mesh dimensions over which FSDP2 replicates and shards a model."""
        return ["dp_replicate", "dp_shard"] if self.dp_replicate_enabled else ["dp_shard"]

    def build_device_mesh(self, device_type: str) -> DeviceMesh | None:
        """Create a device mesh of the dimensions whose size is above 1, outermost first.

        Args:
            device_type: the device type in torch: `cpu`, `cuda`, ...

        Returns:
            The mesh; None if no size is above 1.
        """
        names = self.active_mesh_dims
        if not names:
            return None
        shape = tuple(self._sizes[name] for name in names)
        return init_device_mesh(device_type, shape, mesh_dim_names=tuple(names))

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

    def check(self, *, world_size: int, shards: bool) -> None:
        """Check that this layout fits a world.

        Args:
            world_size: the number of processes; a layout whose sizes are all 1 fits any number.
            shards: whether a FullyShardedDataParallelPlugin was given.

        Raises:
            ValueError: the world size is not the product of the sizes, or the sizes contradict
                `shards`.
        """
        if self.total_size not in (1, world_size):
            sentence = (
                f"ParallelismConfig total_size ({self.total_size}) does not match num_processes "
                f"({world_size}). Please adjust dp_replicate_size/dp_shard_size, or "
                f"{LayoutSettings.variable('dp_replicate_size')}/"
                f"{LayoutSettings.variable('dp_shard_size')}."
            )
            raise ValueError(sentence)
        if shards and self.dp_replicate_enabled and not self.dp_shard_enabled:
            sentence = (
                "FSDP is enabled but dp_shard_size is 1: leave the fsdp_plugin out, or lower "
                f"dp_replicate_size ({self.dp_replicate_size}) and raise dp_shard_size"
            )
            raise ValueError(sentence)
        if self.dp_shard_enabled and not shards:
            sentence = (
                f"dp_shard_size={self.dp_shard_size} needs an fsdp_plugin, or "
                "ACCELERATE_USE_FSDP=true: without it each process would have the whole model"
            )
            raise ValueError(sentence)


def layout_of(given: ParallelismConfig | None, settings: Settings) -> ParallelismConfig | None:
    """Return the layout that the script gives, or that of the environment; None if neither does.

    Args:
        given: the layout that the script gives.
        settings: the settings of the environment.
    """
    if given is None and settings.use_parallelism_config:
        return ParallelismConfig()
    return given


def rank_in(mesh: DeviceMesh | None, dimension: str) -> int:
    """Return this process' coordinate in a dimension of the mesh; 0 if it has no such dimension."""
    if mesh is None or dimension not in (mesh.mesh_dim_names or ()):
        return 0
    return mesh.get_local_rank(dimension)
