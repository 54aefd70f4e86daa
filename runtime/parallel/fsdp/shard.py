"""Sharding a model by FSDP2: which parts of it, and how."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
    offload_wrapper,
)
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from runtime.parallel.fsdp.parameters import weights_of_rank_0
from runtime.parallel.fsdp.plugin import FullyShardedDataParallelPlugin
from runtime.parallel.fsdp.words import Policy, ignored_modules
from runtime.world.state import AcceleratorState
from runtime.world.warn import warn_once


def shard(model: nn.Module, state: AcceleratorState) -> nn.Module:
    """Shard a model in place, as the state's plugin says, over the state's mesh.

    Args:
        model: of the script, on any device; where ranks differ, rank 0's weights are everyone's.
        state: of this process.

    Returns:
        The same object, of a class that is also an FSDPModule.

    Raises:
        ValueError: activations are to be recomputed, and no part of the model was found for it.
    """
    if isinstance(model, FSDPModule):
        return model
    plugin: FullyShardedDataParallelPlugin = state.fsdp_plugin
    ignored = _ignored(model, plugin, state.device)
    if state.mixed_precision != "no":
        _to_float32(model)
    names = list(_parts(model, "", plugin.policy_of(model), ignored))
    if plugin.activation_checkpointing:
        _recompute(model, names, offload=bool(plugin.activation_checkpointing_offload))
    options: dict[str, Any] = {
        "mesh": _mesh(state),
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        "offload_policy": _offload(plugin.cpu_offload, state.device),
    }
    if ignored:
        options["ignored_params"] = ignored  # torch 2.7 and above
    with weights_of_rank_0(model, plugin, ignored, state.device):
        for name in names:
            part = model.get_submodule(name)
            fully_shard(part, reshard_after_forward=plugin.reshard_after_forward, **options)
        fully_shard(model, **options)  # whose weights backward needs first: torch keeps them
    return model


def _mesh(state: AcceleratorState) -> Any:
    """What models lie on; None: all processes."""
    if state.device_mesh is None:
        return None
    return state.device_mesh[tuple(state.parallelism_config.fsdp_dim_names)]


def _offload(policy: OffloadPolicy, device: torch.device) -> OffloadPolicy:
    """Where weights wait; memory is pinned for a device that copies it."""
    if isinstance(policy, CPUOffloadPolicy) and device.type == "cpu":
        return dataclasses.replace(policy, pin_memory=False)
    return policy


def _parts(
    module: nn.Module, name: str, policy: Policy | None, ignored: set[nn.Parameter]
) -> Iterator[str]:
    """Names of the modules that a policy has sharded on their own, innermost first."""
    if policy is None:
        return
    found: list[str] = []
    _visit(module, name, policy, ignored, found)
    yield from dict.fromkeys(one for one in found if one)


def _visit(
    module: nn.Module, name: str, policy: Policy, ignored: set[nn.Parameter], found: list[str]
) -> int:
    """Ask a policy bottom-up, as torch's `_recursive_wrap` does; returns the numbers wrapped."""
    total = sum(one.numel() for one in module.parameters() if one not in ignored)
    if not policy(module=module, recurse=True, nonwrapped_numel=total):
        return 0
    wrapped = sum(
        _visit(child, f"{name}.{own}" if name else own, policy, ignored, found)
        for own, child in module.named_children()
    )
    if policy(module=module, recurse=False, nonwrapped_numel=total - wrapped):
        found.append(name)
        return total
    return wrapped


def _recompute(model: nn.Module, names: list[str], *, offload: bool) -> None:
    """Have parts forget their activations, and compute them again in backward.

    The random state is put back for it: accelerate 1.15 does not, and dropout then differs.
    """
    if not names:
        sentence = (
            "activation_checkpointing needs an auto_wrap_policy that finds parts of the model: "
            "set auto_wrap_policy='TRANSFORMER_BASED_WRAP' and transformer_cls_names_to_wrap"
        )
        raise ValueError(sentence)
    for name in names:
        wrapped = checkpoint_wrapper(model.get_submodule(name))
        model.set_submodule(name, offload_wrapper(wrapped) if offload else wrapped)


def _to_float32(model: nn.Module) -> None:
    """Weights that train are kept whole; lower precision is for computing."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def _ignored(
    model: nn.Module, plugin: FullyShardedDataParallelPlugin, device: torch.device
) -> set[nn.Parameter]:
    """Parameters that each rank keeps whole."""
    modules = ignored_modules(model, plugin.ignored_modules)
    found = {parameter for module in modules for parameter in module.to(device).parameters()}
    if any(parameter.requires_grad for parameter in found):
        warn_once("ignored_modules are trained by each process on its own: freeze them")
    return found
