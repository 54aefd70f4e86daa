"""What an Accelerator knows of sharded models, and of how the world is laid out.

The rooms of FSDP2 are imported when a model is to be sharded: see `containers`.
"""

import contextlib
import importlib
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from runtime.constants import FSDP_MODEL_NAME
from runtime.control import StateView
from runtime.enums import DistributedType
from runtime.manifest import Contents
from runtime.parallelism_config import ParallelismConfig
from runtime.settings import Settings


class Sharding(StateView):
    """Mixed into the Accelerator."""

    _models: list[nn.Module]

    @property
    def is_fsdp2(self) -> bool:
        """Whether models are sharded."""
        return bool(self.state.is_fsdp2)

    @property
    def is_composable_parallelism_enabled(self) -> bool:
        """The same."""
        return self.is_fsdp2

    @property
    def parallelism_config(self) -> ParallelismConfig | None:
        """How the world is laid out; None: for data parallelism alone."""
        layout: ParallelismConfig | None = self.state.parallelism_config
        return layout

    @property
    def torch_device_mesh(self) -> DeviceMesh | None:
        """The mesh of that layout."""
        mesh: DeviceMesh | None = self.state.device_mesh
        return mesh

    @property
    def data_parallel_rank(self) -> int:
        """Which copy of the model this process has a part of."""
        return self._rank_in("dp_replicate")

    @property
    def data_parallel_shard_rank(self) -> int:
        """Which part of a copy this process has."""
        return self._rank_in("dp_shard")

    @property
    def tensor_parallel_rank(self) -> int:
        """0: tensors are not computed in parts."""
        return self._rank_in("tp")

    def _rank_in(self, dimension: str) -> int:
        if self.parallelism_config is None:
            sentence = f"{dimension} is not configured. Set `parallelism_config` first."
            raise RuntimeError(sentence)
        mesh = self.torch_device_mesh
        if mesh is None or dimension not in (mesh.mesh_dim_names or ()):
            return 0
        return mesh.get_local_rank(dimension)

    def _optimizers_following(
        self, objects: tuple[Any, ...]
    ) -> contextlib.AbstractContextManager[None]:
        """Within, objects are prepared; their optimizers then have what was sharded."""
        if not self.is_fsdp2:
            return contextlib.nullcontext()
        optimizers = [one for one in objects if isinstance(one, Optimizer)]
        models = [one for one in objects if isinstance(one, nn.Module)]
        rooms = importlib.import_module("runtime.fsdp_parameters")
        following: contextlib.AbstractContextManager[None] = rooms.following(
            [getattr(one, "optimizer", one) for one in optimizers], models, self._models
        )
        return following


def plugin_of(given: Any, settings: Settings) -> Any:
    """The FullyShardedDataParallelPlugin: the script's, else the environment's, else None.

    Raises:
        TypeError: the script's is something else.
    """
    if given is None and not settings.use_fsdp:
        return None
    kind = importlib.import_module("runtime.fsdp_plugin").FullyShardedDataParallelPlugin
    plugin = kind() if given is None else given
    if not isinstance(plugin, kind):
        sentence = f"`fsdp_plugin` must be a {kind.__module__}.{kind.__name__}, got {plugin!r}"
        raise TypeError(sentence)
    return plugin


def layout_of(given: ParallelismConfig | None, settings: Settings) -> ParallelismConfig | None:
    """The layout: the script's, else the environment's, else None."""
    if given is None and settings.use_parallelism_config:
        return ParallelismConfig()
    return given


def save_sharded(
    state: Any, folder: Path, models: list[nn.Module], optimizers: list[Any], *, is_shared: bool
) -> bool:
    """Write models and optimizers as the plugin says.

    Args:
        state: of this process.
        folder: a directory.
        models: prepared ones.
        optimizers: prepared ones.
        is_shared: whether all processes see the directory.

    Returns:
        Whether there is a plugin; else nothing was written. It also holds in a world of one, so
        that its checkpoints are those of any other.

    Raises:
        ValueError: the processes of different machines write into directories of their own.
    """
    if state.fsdp_plugin is None:
        return False
    if not is_shared:
        sentence = (
            "a sharded model's checkpoint needs one directory for all processes: leave "
            "save_on_each_node, or take a file system that they share"
        )
        raise ValueError(sentence)
    rooms = importlib.import_module("runtime.fsdp_checkpoint")
    rooms.save_all(state.fsdp_plugin, folder, models, optimizers)
    return True


def load_sharded(
    state: Any,
    folder: Path,
    models: list[nn.Module],
    optimizers: list[Any],
    *,
    trained: list[nn.Module],
) -> bool:
    """Put models and optimizers back, if they are sharded or their files are.

    Args:
        state: of this process.
        folder: the checkpoint.
        models: prepared ones, that are to be loaded.
        optimizers: prepared ones.
        trained: models that these have parameters of.

    Returns:
        Whether they are; else nothing was loaded.
    """
    is_written = any(one.startswith(FSDP_MODEL_NAME) for one in Contents.of(folder).names())
    if state.distributed_type != DistributedType.FSDP and not is_written:
        return False
    rooms = importlib.import_module("runtime.fsdp_checkpoint")
    rooms.load_all(folder, models, optimizers, trained=trained)
    return True


def full_state_dict(model: nn.Module) -> dict[str, Any]:
    """See `fsdp_checkpoint.full_state_dict`."""
    rooms = importlib.import_module("runtime.fsdp_checkpoint")
    return dict(rooms.full_state_dict(model))
