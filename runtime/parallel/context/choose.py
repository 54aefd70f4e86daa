"""Finds whether the processes of a layout share sequences."""

import functools
from typing import TYPE_CHECKING

from torch.distributed.device_mesh import DeviceMesh

from runtime.world.state import AcceleratorState

if TYPE_CHECKING:
    from runtime.parallel.context.sequences import Sequences


def sequences_of(state: AcceleratorState) -> "Sequences | None":
    """Return what divides sequences; None without context parallelism.

    Args:
        state: the state of this process.
    """
    layout = state.parallelism_config
    if layout is None or not layout.cp_enabled:
        return None
    return _of_mesh(state.device_mesh)


@functools.lru_cache(maxsize=1)  # all Accelerators of a process divide the same sequences
def _of_mesh(mesh: DeviceMesh) -> "Sequences":
    from runtime.parallel.context.sequences import Sequences  # noqa: PLC0415  # imports torch's compiler, which takes a second

    return Sequences(mesh["cp"])
