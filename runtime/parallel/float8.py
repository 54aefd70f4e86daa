"""Converts the linear layers of models to fp8 with torchao.

torchao is an optional package, and is imported when the first model is converted.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from runtime.config.handlers import AORecipeKwargs
from runtime.parallel.modules import filter_linear_layers, find_first_last_linear_layers
from runtime.world.warn import warn_once

_GATHERED_IN_BF16 = (
    "FSDP2 gathers weights in bf16 here, also with enable_fsdp_float8_all_gather: pass "
    "AORecipeKwargs(enable_fsdp_float8_all_gather=False) to gather them so without this warning"
)
_LEFT = (
    "mixed_precision='fp8' leaves {count} linear layers as they are, such as {first!r}: torchao "
    "would replace their forward, and lose their hooks. They compute in bf16"
)


def convert(model: nn.Module, recipe: AORecipeKwargs, *, is_sharded: bool = False) -> None:
    """Convert the linear layers of a model to fp8, in place.

    A converted layer has the parameters of the layer that it replaces, so that optimizers and
    checkpoints are those of the model that is not converted. A layer that is converted already,
    one that does more than its parameters say, and a model that is a single layer stay as they are.

    Args:
        model: the model.
        recipe: which layers are converted, and how.
        is_sharded: whether FSDP2 shards the model.
    """
    from torchao.float8 import convert_to_float8_training  # noqa: PLC0415  # an optional package
    from torchao.float8.float8_linear import Float8Linear  # noqa: PLC0415

    if is_sharded and recipe.config.enable_fsdp_float8_all_gather:
        warn_once(_GATHERED_IN_BF16)
    chosen = recipe.module_filter_func or _usual_filter(model)
    left: list[str] = []

    def is_converted(module: nn.Module, name: str) -> bool:
        if module is model or isinstance(module, Float8Linear) or not chosen(module, name):
            return False
        left.extend([] if _is_plain(module) else [name])
        return name not in left

    config = _with_own_weights(recipe.config)
    convert_to_float8_training(model, module_filter_fn=is_converted, config=config)
    if left:
        warn_once(_LEFT.format(count=len(left), first=left[0]))
    if not any(isinstance(one, Float8Linear) for one in model.modules()):
        warn_once(
            f"mixed_precision='fp8' converts no layer of {type(model).__name__}, which computes in "
            "bf16: it needs linear layers whose sizes are multiples of 16, besides the first and "
            "the last one, or another AORecipeKwargs.module_filter_func"
        )


def _usual_filter(model: nn.Module) -> Callable[[nn.Module, str], bool]:
    ends = [name for name in find_first_last_linear_layers(model) if name is not None]
    return functools.partial(filter_linear_layers, layers_to_filter=ends)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes as nn.Linear does, so that its parameters are all that is kept."""
    own = vars(layer)
    is_usual = type(layer).forward is nn.Linear.forward and "forward" not in own
    has_hooks = any(name.endswith("_hooks") and hooks for name, hooks in own.items())
    return is_usual and not has_hooks and "weight" in dict(layer.named_parameters(recurse=False))


def _with_own_weights(config: Any) -> Any:
    """Return a configuration with which layers keep their parameters.

    For an all-gather in fp8 torchao replaces each weight by a tensor of another class, which the
    optimizer does not have, and which only FSDP2 needs.
    """
    if not config.enable_fsdp_float8_all_gather:
        return config
    return dataclasses.replace(config, enable_fsdp_float8_all_gather=False)
