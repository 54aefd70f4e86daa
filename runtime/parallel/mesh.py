"""How the processes of a world are laid out: in copies of a model, and shards of each copy."""

import os
from dataclasses import dataclass
from typing import Any

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from runtime.config.parsing import naming
from runtime.config.plugins import first
from runtime.config.settings import LayoutSettings, Settings

_ORDER = ("dp_replicate", "dp_shard", "cp", "sp", "tp")  # of a mesh's dimensions, outermost first
_LEFT_OUT = {  # dimension -> what a script can do instead
    "cp": "context parallelism: shard the model with dp_shard_size instead",
    "sp": "sequence parallelism, which is DeepSpeed's: shard the model with dp_shard_size instead",
    "tp": (
        "tensor parallelism: its ranks need the same batches, which data loaders here do not "
        "give; shard the model with dp_shard_size, or use torch's parallelize_module on your own"
    ),
}


@dataclass
class ParallelismConfig:
    """The sizes of a world's dimensions, whose product is the world's size.

    `dp_replicate_size` copies of a model, each in `dp_shard_size` shards: with both above 1 this is
    hybrid sharding, and gradients are reduced among shards first. What is not said is the
    environment's (`PARALLELISM_CONFIG_DP_SHARD_SIZE`, ...), else 1.

    Raises:
        ValueError: a size is less than 1.
        NotImplementedError: a dimension that this runtime leaves out is above 1.
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

    device_mesh = None  # made once, by get_device_mesh

    def __post_init__(self) -> None:
        """Fill what is not said, and check it."""
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
        """Processes that this layout is for."""
        return self.data_parallel_size * self.non_data_parallel_size

    @property
    def data_parallel_size(self) -> int:
        """Processes that have batches of their own."""
        return self._sizes["dp_replicate"] * self._sizes["dp_shard"]

    @property
    def non_data_parallel_size(self) -> int:
        """Processes that share each batch."""
        return self._sizes["tp"] * self._sizes["cp"] * self._sizes["sp"]

    @property
    def dp_replicate_enabled(self) -> bool:
        """Whether there are several copies of a model."""
        return self._sizes["dp_replicate"] > 1

    @property
    def dp_shard_enabled(self) -> bool:
        """Whether models are sharded."""
        return self._sizes["dp_shard"] > 1

    @property
    def tp_enabled(self) -> bool:
        """Never."""
        return self._sizes["tp"] > 1

    @property
    def cp_enabled(self) -> bool:
        """Never."""
        return self._sizes["cp"] > 1

    @property
    def sp_enabled(self) -> bool:
        """Never."""
        return self._sizes["sp"] > 1

    @property
    def active_mesh_dims(self) -> list[str]:
        """Names of the dimensions above 1, outermost first."""
        return [name for name, size in self._sizes.items() if size > 1]

    @property
    def dp_dim_names(self) -> list[str]:
        """Names of the dimensions that have batches of their own."""
        return self.active_mesh_dims

    @property
    def fsdp_dim_names(self) -> list[str]:
        """Names of the dimensions that a sharded model lies on."""
        return ["dp_replicate", "dp_shard"] if self.dp_replicate_enabled else ["dp_shard"]

    def build_device_mesh(self, device_type: str) -> DeviceMesh | None:
        """A mesh with the dimensions above 1, outermost first; None if there is none.

        Args:
            device_type: `cpu`, `cuda`, ...
        """
        names = self.active_mesh_dims
        if not names:
            return None
        shape = tuple(self._sizes[name] for name in names)
        return init_device_mesh(device_type, shape, mesh_dim_names=tuple(names))

    def get_device_mesh(self, device_type: str | None = None) -> DeviceMesh | None:
        """The mesh, which is made once.

        Args:
            device_type: needed the first time.

        Raises:
            ValueError: it is not given then, or is another one later.
        """
        if self.device_mesh is None:
            if device_type is None:
                sentence = "get_device_mesh needs a device_type, as `cuda`, to make the mesh"
                raise ValueError(sentence)
            self.device_mesh = self.build_device_mesh(device_type)
        elif device_type not in (None, self.device_mesh.device_type):
            sentence = f"the mesh is of {self.device_mesh.device_type}, not of {device_type}"
            raise ValueError(sentence)
        return self.device_mesh

    def check(self, *, world_size: int, shards: bool) -> None:
        """See that this is a layout of a world.

        Args:
            world_size: its processes; a layout whose sizes are all 1 is for any.
            shards: whether a FullyShardedDataParallelPlugin was given.

        Raises:
            ValueError: it is not.
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
    """The layout: the script's, else the environment's, else None."""
    if given is None and settings.use_parallelism_config:
        return ParallelismConfig()
    return given


def rank_in(mesh: DeviceMesh | None, dimension: str) -> int:
    """Return this process' coordinate in a dimension of the mesh; 0 if it has no such dimension."""
    if mesh is None or dimension not in (mesh.mesh_dim_names or ()):
        return 0
    return mesh.get_local_rank(dimension)
