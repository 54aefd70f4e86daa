"""What an Accelerator knows of sharded models, and of how the world is laid out.

The rooms of FSDP2 are imported when a model is to be sharded: see `containers`.
"""

import contextlib
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from runtime.parallel.mesh import ParallelismConfig
from runtime.world.roles import StateView


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
        from runtime.parallel.fsdp.parameters import following  # noqa: PLC0415  # imports torch's FSDP, which takes a second

        inner = [getattr(one, "optimizer", one) for one in optimizers]
        return following(inner, models, self._models)
