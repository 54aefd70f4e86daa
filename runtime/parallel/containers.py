"""What is put around a model so that all processes train one: nothing, DDP, or FSDP2.

FSDP2 is imported where it is used: torch takes longer for it than for all the rest of this package.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.config.enums import DistributedType
from runtime.config.handlers import DistributedDataParallelKwargs
from runtime.world import process_group
from runtime.world.state import AcceleratorState

Context = contextlib.AbstractContextManager[None]


@dataclass(frozen=True, slots=True)
class Plain:
    """The model as it is: of a process alone."""

    state: AcceleratorState
    handler: DistributedDataParallelKwargs | None = None
    evaluation_mode: bool = False  # no gradients will be needed

    autocasts = True  # whether lower precision is a matter of the model's forward

    def place(self, model: nn.Module) -> nn.Module:
        """Put a model on this process' device."""
        return model.to(self.state.device)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Make a model one with those of the other processes."""
        return model

    def averaged(self, model: nn.Module) -> list[nn.Parameter] | None:  # noqa: ARG002  # its kinds need it
        """The parameters of a wrapped model whose gradients it averages; None: all it ever has."""
        return None

    def no_sync(self, model: nn.Module) -> Context:
        """Within, gradients stay on this process."""
        own: Context = getattr(model, "no_sync", contextlib.nullcontext)()
        return own


class Replicated(Plain):
    """The whole model in each process; DistributedDataParallel averages the gradients."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Put DistributedDataParallel around a model that trains, unless the script has."""
        trains = any(parameter.requires_grad for parameter in model.parameters())
        if self.evaluation_mode or not trains:
            return model
        prepared = model if _is_replica(model) else self._replica(model)
        process_group.note_holder(prepared)
        return prepared

    def averaged(self, model: nn.Module) -> list[nn.Parameter]:
        """What trains at this moment: DistributedDataParallel looks at it when it is made."""
        trained = [one for one in model.parameters() if one.requires_grad]
        return trained if _is_replica(model) else []

    def _replica(self, model: nn.Module) -> nn.Module:
        handler, device = self.handler or DistributedDataParallelKwargs(), self.state.device
        ids = None if device.type == "cpu" else [device.index]
        replica = DistributedDataParallel(model, device_ids=ids, **handler.to_kwargs())
        handler.register_comm_hook(replica)
        return replica


def _is_replica(model: nn.Module) -> bool:
    """Whether this is in DistributedDataParallel, also if the script has compiled that."""
    return isinstance(getattr(model, "_orig_mod", model), DistributedDataParallel)


class Sharded(Plain):
    """A part of each parameter in each process: FSDP2 gathers weights, and scatters gradients."""

    autocasts = False  # a MixedPrecisionPolicy does it

    def place(self, model: nn.Module) -> nn.Module:
        """Leave a model where it is: each part goes to the device when it is sharded."""
        return model

    def wrap(self, model: nn.Module) -> nn.Module:
        """Shard a model in place, also one that does not train: it may be as large."""
        from runtime.parallel.fsdp.shard import shard  # noqa: PLC0415  # imports torch's FSDP, which takes a second

        return shard(model, self.state)

    def no_sync(self, model: nn.Module) -> Context:
        """Within, gradients stay on this process, whole: that is memory for all of them."""
        switch = getattr(
            model, "set_requires_gradient_sync", None
        )  # FSDPModule's, also if compiled
        return Plain.no_sync(self, model) if switch is None else _switched_off(switch)


# Any other kind is of several processes, which each have the whole model.
_CONTAINERS = {DistributedType.NO: Plain, DistributedType.FSDP: Sharded}


def container_of(state: Any, **options: Any) -> Plain:
    """The container of this kind of world; the options are its fields."""
    return _CONTAINERS.get(state.distributed_type, Replicated)(state, **options)


@contextlib.contextmanager
def trigger_sync_in_backward(model: nn.Module) -> Iterator[None]:
    """Reduce gradients in the next backward, although forward ran under `no_sync`.

    Args:
        model: a prepared model; one that is not DistributedDataParallel stays as it is.
    """
    if not isinstance(model, DistributedDataParallel):
        yield
        return
    before = model.require_backward_grad_sync, model.require_forward_param_sync
    model.require_backward_grad_sync = model.require_forward_param_sync = True
    # DistributedDataParallel.forward does this at its end if gradients are to be reduced.
    model.reducer.prepare_for_backward([])
    try:
        yield
    finally:
        model.require_backward_grad_sync, model.require_forward_param_sync = before


@contextlib.contextmanager
def _switched_off(switch: Callable[[bool], None]) -> Iterator[None]:
    switch(False)
    try:
        yield
    finally:
        switch(True)
