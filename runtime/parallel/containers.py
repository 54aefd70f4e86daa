"""The ways in which processes train a model together: replicated (DDP), divided or sharded (FSDP2).

A model is divided by tensor parallelism, and each part may be sharded. FSDP2 and DTensor are
imported where they are used, since that takes longer than the rest of this package.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.config.enums import DistributedType
from runtime.config.handlers import DistributedDataParallelKwargs
from runtime.parallel import arrivals
from runtime.parallel.reducer import replica_of
from runtime.world import process_group
from runtime.world.state import AcceleratorState

Context = contextlib.AbstractContextManager[None]


@dataclass(frozen=True, slots=True)
class Plain:
    """Leaves a model as it is; for a single process.

    Attributes:
        state: the state of this process.
        handler: the arguments of DistributedDataParallel.
        evaluation_mode: whether the model will have no gradients.
        autocasts: whether the forward of a model runs under autocast in mixed precision.
    """

    state: AcceleratorState
    handler: DistributedDataParallelKwargs | None = None
    evaluation_mode: bool = False

    autocasts = True

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device of this process."""
        return model.to(self.state.device)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model in the form in which all processes train it."""
        return model

    def averaged(self, model: nn.Module) -> list[nn.Parameter] | None:  # noqa: ARG002  # subclasses use it
        """Return the parameters of a wrapped model whose gradients are averaged over processes.

        Returns:
            The parameters; None for all that the model has now or later.
        """
        return None

    def no_sync(self, model: nn.Module) -> Context:
        """Return a context in which the gradients of a model are not reduced."""
        own: Context = getattr(model, "no_sync", contextlib.nullcontext)()
        return own


class Replicated(Plain):
    """Replicates a model in each process; DistributedDataParallel averages the gradients."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Wrap a model that trains in DistributedDataParallel, unless the script has done this."""
        trains = any(parameter.requires_grad for parameter in model.parameters())
        if self.evaluation_mode or not trains:
            return model
        prepared = model if _is_replica(model) else self._replica(model)
        process_group.note_holder(prepared)
        arrivals.record(prepared)
        return prepared

    def averaged(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the parameters that require gradients when DistributedDataParallel is created."""
        trained = [one for one in model.parameters() if one.requires_grad]
        return trained if _is_replica(model) else []

    def _replica(self, model: nn.Module) -> nn.Module:
        handler, device = self.handler or DistributedDataParallelKwargs(), self.state.device
        ids = None if device.type == "cpu" else [device.index]
        replica = DistributedDataParallel(model, device_ids=ids, **handler.to_kwargs())
        handler.register_comm_hook(replica)
        return replica


def _is_replica(model: nn.Module) -> bool:
    """Whether a model is in DistributedDataParallel, compiled or not."""
    return replica_of(model) is not None


class Divided(Plain):
    """Divides the layers of a model among all processes, which read the same batches."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Divide a model in place, also one that does not train, since it may be large as well."""
        from runtime.parallel.tensor.divide import divide  # noqa: PLC0415  # imports DTensor, which takes a second

        return divide(model, self.state)


class Sharded(Divided):
    """Shards each parameter over the processes with FSDP2."""

    autocasts = False  # FSDP2's MixedPrecisionPolicy casts instead

    def place(self, model: nn.Module) -> nn.Module:
        """Leave a model where it is: sharding moves each parameter to the device."""
        return model

    def wrap(self, model: nn.Module) -> nn.Module:
        """Shard a model in place, also one that does not train, since it may be large as well."""
        from runtime.parallel.fsdp.shard import shard  # noqa: PLC0415  # imports torch's FSDP, which takes a second

        if self.state.is_tensor_parallel:
            model = super().wrap(model)
        return shard(model, self.state)

    def no_sync(self, model: nn.Module) -> Context:
        """Return a context in which the gradients of a model are not reduced.

        Each process then needs memory for the gradients of the whole model.
        """
        # A method of FSDPModule, which a compiled model forwards.
        switch = getattr(model, "set_requires_gradient_sync", None)
        return Plain.no_sync(self, model) if switch is None else _switched_off(switch)


# In all other kinds of worlds models are replicated, or divided.
_CONTAINERS = {DistributedType.NO: Plain, DistributedType.FSDP: Sharded}


def container_of(state: Any, **options: Any) -> Plain:
    """Return the container for the kind of world.

    Args:
        state: the state of this process.
        **options: further fields of the container.
    """
    usual = Divided if state.is_tensor_parallel else Replicated
    return _CONTAINERS.get(state.distributed_type, usual)(state, **options)


@contextlib.contextmanager
def trigger_sync_in_backward(model: nn.Module) -> Iterator[None]:
    """Reduce gradients in the next backward, although forward ran under `no_sync`.

    Args:
        model: a prepared model; one that is not replicated stays as it is.
    """
    replica = replica_of(model)
    if replica is None:
        yield
        return
    before = replica.require_backward_grad_sync, replica.require_forward_param_sync
    replica.require_backward_grad_sync = replica.require_forward_param_sync = True
    # DistributedDataParallel.forward does this at its end, unless it runs under `no_sync`.
    replica.reducer.prepare_for_backward([])
    try:
        yield
    finally:
        replica.require_backward_grad_sync, replica.require_forward_param_sync = before


@contextlib.contextmanager
def _switched_off(switch: Callable[[bool], None]) -> Iterator[None]:
    switch(False)
    try:
        yield
    finally:
        switch(True)
