"""Weights and optimizers of models whose parameters are replaced when the models are sharded.

A parameter is identified by its place: its module and its name in that module. Sharding replaces
the parameter object, and wrappers change its full name, but neither changes the place.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from runtime.parallel.alike import differ, warn_of_difference
from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin

Slot = tuple[nn.Module, str]
_TOGETHER = (
    "When using FSDP2, a model and optimizer must be passed together to `Accelerator.prepare()` as "
    "the optimizer needs to have its parameters modified after the model is converted."
)


@contextlib.contextmanager
def weights_of_rank_0(
    model: nn.Module,
    plugin: FullyShardedDataParallelPlugin,
    ignored: set[nn.Parameter],
    device: torch.device,
) -> Iterator[None]:
    """Return a context in which a model is sharded; at its end all ranks have rank 0's weights.

    If all ranks have the same weights and buffers already, nothing is sent. Otherwise only rank 0
    needs memory for the whole model: on the other ranks parameters are on the meta device until
    they are sharded.

    Args:
        model: the model; rank 0 must have its weights.
        plugin: how the model is sharded.
        ignored: the parameters that are not sharded.
        device: the device of this process.
    """
    if not plugin.cpu_ram_efficient_loading:
        if _is_divided(model) or not differ(model):
            yield
            return
        warn_of_difference("sharding")
    full = model.state_dict() if distributed.get_rank() == 0 else {}
    _to_meta(model, ignored)
    yield
    place = "cpu" if isinstance(plugin.cpu_offload, CPUOffloadPolicy) else device
    model._apply(  # type: ignore[no-untyped-call]  # noqa: SLF001  # to_empty would empty buffers
        lambda one: torch.empty_like(one, device=place) if one.is_meta else one
    )
    for buffer in model.buffers():
        distributed.broadcast(buffer, 0)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, full, options=options)


def _is_divided(model: nn.Module) -> bool:
    """Whether tensor parallelism has divided a model, which has made its weights alike."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _to_meta(model: nn.Module, ignored: set[nn.Parameter]) -> None:
    """Move the parameters of a model to the meta device; shared parameters stay shared."""
    new = {
        one: nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=one.requires_grad)
        for one in model.parameters()
        if one not in ignored
    }
    for module, name, parameter in _each([model]):
        _put((module, name), new.get(parameter, parameter))


@contextlib.contextmanager
def following(
    optimizers: Iterable[Optimizer], models: Iterable[nn.Module], prepared: Iterable[nn.Module]
) -> Iterator[None]:
    """Return a context in which models are sharded; at its end optimizers have the new parameters.

    Optimizer states are sharded as well. Inside the context optimizers have no parameters, so that
    the memory of each parameter is freed as soon as it is sharded.

    Args:
        optimizers: the script's optimizers.
        models: the models that are sharded inside the context.
        prepared: models that are sharded already.

    Raises:
        ValueError: an optimizer has a parameter that belongs to none of the models.
    """
    places: dict[int, Slot | nn.Parameter] = {
        id(parameter): (module, name) for module, name, parameter in _each(models)
    }
    places |= {id(parameter): parameter for one in prepared for parameter in one.parameters()}
    moving = [(optimizer, *_emptied(optimizer, places)) for optimizer in optimizers]
    yield
    for optimizer, groups, states in moving:
        for group, group_places in zip(optimizer.param_groups, groups, strict=True):
            group["params"] = [_at(place) for place in group_places]
        for place, state in states:
            parameter = _at(place)
            optimizer.state[parameter] = {
                name: _as_sharded(value, parameter) for name, value in state.items()
            }


def _emptied(optimizer: Optimizer, places: dict[int, Any]) -> tuple[list[Any], list[Any]]:
    """Remove the parameters and states from an optimizer.

    Returns:
        The places of the parameters, by group; and the pairs of a place and a state.
    """
    known = [[places.get(id(one)) for one in group["params"]] for group in optimizer.param_groups]
    if any(place is None for group in known for place in group):
        raise ValueError(_TOGETHER)
    states = [(places[id(one)], state) for one, state in optimizer.state.items()]
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["params"] = []
    return known, states


def _as_sharded(value: Any, parameter: nn.Parameter) -> Any:
    """Shard a tensor of an optimizer state as its parameter is sharded."""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or not value.dim():
        return value
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor):
        return value.to(parameter.device)
    mesh, place = parameter.device_mesh, parameter.to_local().device
    sharded = distribute_tensor(value, mesh, parameter.placements, src_data_rank=None)
    return sharded.to(place)


def _each(models: Iterable[nn.Module]) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Return all parameters with their places; a shared parameter has several places."""
    return [
        (module, name, parameter)
        for model in models
        for module in model.modules()
        for name, parameter in module._parameters.items()  # noqa: SLF001  # named_parameters() skips shared ones
        if parameter is not None
    ]


def _at(place: Slot | nn.Parameter) -> nn.Parameter:
    if isinstance(place, nn.Parameter):
        return place
    module, name = place
    found = module._parameters[name]  # noqa: SLF001
    assert found is not None  # noqa: S101  # for mypy: sharding does not remove parameters
    return found


def _put(place: Slot, parameter: nn.Parameter) -> None:
    module, name = place
    module._parameters[name] = parameter  # noqa: SLF001
