"""Translates the values of sharding settings, including those of FSDP1, to FSDP2's objects."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    MixedPrecisionPolicy,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictType,
)
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy, transformer_auto_wrap_policy

from runtime.config.parsing import str_to_bool

Policy = Callable[..., bool]  # policy(module=, recurse=, nonwrapped_numel=), as in torch

_STRATEGIES: dict[str, bool | None] = {  # of FSDP1 -> reshard_after_forward; None: no equivalent
    "FULL_SHARD": True,
    "SHARD_GRAD_OP": False,
    "NO_SHARD": None,
    "HYBRID_SHARD": None,
    "HYBRID_SHARD_ZERO2": None,
}
_INSTEAD = (
    "for NO_SHARD, train without an fsdp_plugin; for HYBRID_SHARD, pass "
    "ParallelismConfig(dp_replicate_size=..., dp_shard_size=...)"
)
_POLICIES: dict[str, Policy | None] = {
    "TRANSFORMER_BASED_WRAP": transformer_auto_wrap_policy,
    "SIZE_BASED_WRAP": size_based_auto_wrap_policy,
    "NO_WRAP": None,
}
_DTYPES = {
    "fp8": torch.bfloat16,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
PRECISIONS = ("param_dtype", "reduce_dtype", "output_dtype")
CONFIGS: dict[StateDictType, tuple[Callable[[], Any], Callable[[], Any]]] = {
    StateDictType.FULL_STATE_DICT: (
        functools.partial(FullStateDictConfig, offload_to_cpu=True, rank0_only=True),
        functools.partial(FullOptimStateDictConfig, offload_to_cpu=True, rank0_only=True),
    ),
    StateDictType.SHARDED_STATE_DICT: (
        functools.partial(ShardedStateDictConfig, offload_to_cpu=True),
        functools.partial(ShardedOptimStateDictConfig, offload_to_cpu=True),
    ),
}


def reshards(said: Any) -> bool:
    """Whether gathered weights are freed between forward and backward.

    >>> reshards("true"), reshards("SHARD_GRAD_OP"), reshards(2)
    (True, False, False)

    Args:
        said: a boolean or its name, or a sharding strategy of FSDP1: its name, number or member.

    Raises:
        ValueError: the value is unknown, or FSDP2 has no equivalent of the strategy.
    """
    text = str(getattr(said, "name", said)).upper().lstrip("_")
    if text.isdigit() and 1 <= int(text) <= len(_STRATEGIES):
        text = list(_STRATEGIES)[int(text) - 1]
    if text not in _STRATEGIES:
        try:
            return bool(str_to_bool(text))
        except ValueError as error:
            able = [name for name, answer in _STRATEGIES.items() if answer is not None]
            sentence = f"{error}, or one of {', '.join(able)}"
            raise ValueError(sentence) from error
    answer = _STRATEGIES[text]
    if answer is None:
        sentence = f"FSDP2 has no {text}: {_INSTEAD}"
        raise ValueError(sentence)
    return answer


def dtype_of(precision: str | torch.dtype | None) -> torch.dtype:
    """Return the dtype of a precision.

    Raises:
        ValueError: the precision is unknown.
    """
    dtype = _DTYPES.get(precision) if isinstance(precision, str) else precision
    if dtype not in _DTYPES.values():
        sentence = f"Invalid mixed precision: {precision}. Must be one of {list(_DTYPES)}"
        raise ValueError(sentence)
    return dtype  # type: ignore[return-value]  # the check excludes None


def precision_policy(given: dict[str, Any]) -> MixedPrecisionPolicy:
    """Return the policy for a dict of dtypes.

    Raises:
        ValueError: a key is missing, or a value is not one of the supported dtypes.
    """
    known = set(_DTYPES.values())
    if not set(PRECISIONS) <= set(given) or not set(given.values()) <= known:
        sentence = (
            f"Invalid mixed precision policy: {given}. Must be a `dict` with keys "
            f"{list(PRECISIONS)}; values must be of {list(known)}"
        )
        raise ValueError(sentence)
    return MixedPrecisionPolicy(**given)


def policy_named(name: str) -> Policy | None:
    """Return the wrap policy of a name, without the classes or the size of a model.

    Raises:
        ValueError: the name is unknown.
    """
    if name.upper() not in _POLICIES:
        sentence = f"Invalid auto wrap policy: {name.upper()}. Must be one of {list(_POLICIES)}"
        raise ValueError(sentence)
    return _POLICIES[name.upper()]


def kind_of_state_dict(said: StateDictType | str) -> StateDictType:
    """Return how checkpoints store sharded models.

    Args:
        said: a member of torch's StateDictType, its name or its number.

    Raises:
        ValueError: the value is unknown, or FSDP2 does not support it.
    """
    if isinstance(said, str):
        known = {name: one for one in StateDictType for name in (one.name, str(one.value))}
        if said.upper() not in known:
            sentence = (
                f"Invalid state dict type: {said}. Must be one of {[one.name for one in CONFIGS]}"
            )
            raise ValueError(sentence)
        said = known[said.upper()]
    if said not in CONFIGS:
        sentence = (
            f"FSDP2 does not support {said.name}. Please set `fsdp_state_dict_type` to "
            "`SHARDED_STATE_DICT` or `FULL_STATE_DICT`."
        )
        raise ValueError(sentence)
    return said


def class_of(model: nn.Module, name: str) -> type[nn.Module]:
    """Return the class of a model's modules that has a name.

    Raises:
        ValueError: the model has no module of such a class.
    """
    for module in model.modules():
        if type(module).__name__ == name:
            return type(module)
    found = ", ".join(dict.fromkeys(type(module).__name__ for module in model.modules()))
    sentence = (
        f"Could not find the transformer layer class {name} in the model. Its classes are {found}"
    )
    raise ValueError(sentence)


def check_version(version: int) -> None:
    """Check that a version of FSDP is 2, or 1, which is read as 2.

    Raises:
        ValueError: it is another version.
    """
    if version not in (1, 2):
        sentence = f"fsdp_version must be 2, got {version}"
        raise ValueError(sentence)


def check_pattern(said: Any) -> None:
    """Check that `ignored_modules`, if it is a string, is a regular expression.

    Raises:
        ValueError: the string is not a regular expression.
    """
    if not isinstance(said, str):
        return
    try:
        re.compile(said)
    except re.error as error:
        sentence = (
            f"ignored_modules must be modules, or a regular expression that matches the whole "
            f"names of modules, got {said!r}: {error}"
        )
        raise ValueError(sentence) from error


def check_policy(given: Any) -> None:
    """Check that a wrap policy that is not a name can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(given):
        sentence = (
            f"auto_wrap_policy must be one of {', '.join(_POLICIES)}, or a function such as those "
            f"of torch.distributed.fsdp.wrap, got {given!r}"
        )
        raise TypeError(sentence)


def ignored_modules(model: nn.Module, said: Iterable[nn.Module] | str | None) -> list[nn.Module]:
    """Return the modules that are not sharded.

    Args:
        model: the model.
        said: the modules, or a regular expression that must match their whole names.
    """
    if not isinstance(said, str):
        return list(said or ())
    return [module for name, module in model.named_modules() if re.fullmatch(said, name)]


def check_kind(field: str, value: Any, kind: type) -> None:
    """Check the type of a field's value.

    Raises:
        ValueError: the value is an object of another type.
    """
    if not isinstance(value, kind):
        sentence = (
            f"`{field}` must be an instance of `torch.distributed.fsdp.{kind.__name__}` in FSDP2, "
            f"got {value!r}"
        )
        raise ValueError(sentence)  # noqa: TRY004  # Accelerate raises a ValueError, too


def check_offload(plugin: Any) -> None:
    """Check that activations are offloaded only if they are recomputed.

    Raises:
        ValueError: `activation_checkpointing_offload` is set without `activation_checkpointing`.
    """
    if plugin.activation_checkpointing_offload and not plugin.activation_checkpointing:
        sentence = (
            "`activation_checkpointing_offload=True` requires `activation_checkpointing=True`."
        )
        raise ValueError(sentence)
