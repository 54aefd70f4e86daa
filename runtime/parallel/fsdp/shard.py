"""Shards models with FSDP2."""

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
    """Shard a model in place, with the plugin and over the mesh of the state.

    Args:
        model: the script's model, on any device. If weights or buffers differ between ranks, all
            ranks get those of rank 0.
        state: the state of this process.

    Returns:
        The same object; its class is now a subclass of FSDPModule, too.

    Raises:
        ValueError: activations must be recomputed, but the wrap policy selects no module.
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
        # No reshard_after_forward: backward needs the root's weights first, so torch keeps them.
        fully_shard(model, **options)
    return model


def _mesh(state: AcceleratorState) -> Any:
    """Return the mesh over which models are sharded; None for all processes."""
    if state.model_mesh is None:
        return None
    names = state.model_mesh.mesh_dim_names
    return state.model_mesh[tuple(name for name in names if name != "tp")]


def _offload(policy: OffloadPolicy, device: torch.device) -> OffloadPolicy:
    """Return the offload policy; on CPUs it does not pin memory, since nothing is copied."""
    if isinstance(policy, CPUOffloadPolicy) and device.type == "cpu":
        return dataclasses.replace(policy, pin_memory=False)
    return policy


def _parts(
    module: nn.Module, name: str, policy: Policy | None, ignored: set[nn.Parameter]
) -> Iterator[str]:
    """Yield the names of the modules that a policy selects, innermost first."""
    if policy is None:
        return
    found: list[str] = []
    _visit(module, name, policy, ignored, found)
    yield from dict.fromkeys(one for one in found if one)


def _visit(
    module: nn.Module, name: str, policy: Policy, ignored: set[nn.Parameter], found: list[str]
) -> int:
    """Apply a policy bottom-up, as torch's `_recursive_wrap` does.

    Returns:
        The number of parameter elements in the selected modules.
    """
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
    """Make modules recompute their activations in backward.

    The state of the random generators is restored for this, so that dropout is the same;
    Accelerate 1.15 does not do so.
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
    """Convert weights that train to float32; mixed precision casts them for computing only."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def _ignored(
    model: nn.Module, plugin: FullyShardedDataParallelPlugin, device: torch.device
) -> set[nn.Parameter]:
    """Return the parameters that are not sharded, and move their modules to the device."""
    modules = ignored_modules(model, plugin.ignored_modules)
    found = {parameter for module in modules for parameter in module.to(device).parameters()}
    if any(parameter.requires_grad for parameter in found):
        warn_once(
            "ignored_modules have parameters that require gradients, which are not averaged over "
            "processes: freeze them"
        )
    return found
