"""Matches the names of saved weights to the names in a model's state dict."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from runtime.checkpoint.shared_tensors import filled
from runtime.parallel.wrap import bare

_COMPILED = "_orig_mod"  # torch.compile puts this before the names of a compiled module
_WRAPPERS = ("module", _COMPILED)  # prefixes of DistributedDataParallel and torch.compile


def fitted(weights: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return weights under the names of a model, including all tensors that share memory.

    Args:
        weights: the weights of a file, saved from a model that may have been compiled or prepared.
        model: the model to load them into, prepared or not.
    """
    own = bare(model).state_dict(keep_vars=True)
    return filled(renamed(weights, own), own)


def renamed(weights: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Return weights under a model's names, without the prefixes that wrappers have added.

    Of the prefixes with which the most names match the model's, the shortest is removed.

    Args:
        weights: name -> value.
        own: the names in the model's state dict.

    >>> renamed({"_orig_mod.module.weight": 1}, {"weight"})
    {'weight': 1}
    >>> renamed({"module.weight": 1}, {"module.weight"})
    {'module.weight': 1}
    """
    names = {plain(name): name for name in own} | {name: name for name in own}
    prefix = max(
        _prefixes(weights),
        key=lambda one: sum(plain(name.removeprefix(one)) in names for name in weights),
    )
    found = {}
    for name, value in weights.items():
        inner = name.removeprefix(prefix)
        found[inner if inner in own else names.get(plain(inner), inner)] = value
    return found


def plain(name: str) -> str:
    """Return a name without the parts that torch.compile has added.

    >>> plain("layers.0._orig_mod.weight")
    'layers.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _prefixes(names: Collection[str]) -> Iterator[str]:
    """Yield the prefixes that wrappers may have added to all names, shortest first.

    >>> list(_prefixes(["module.module.weight", "module.bias"]))
    ['', 'module.']
    """
    prefix = ""
    yield prefix
    for part in min(names, default="").split(".")[:-1]:
        prefix += f"{part}."
        if part not in _WRAPPERS or not all(name.startswith(prefix) for name in names):
            return
        yield prefix
