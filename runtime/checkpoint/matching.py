"""Weights that were saved, under the names that a model has for them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from runtime.checkpoint.shared_tensors import filled
from runtime.parallel.wrap import bare

_COMPILED = "_orig_mod"  # what torch.compile puts before the names of what it has compiled
_WRAPPERS = ("module", _COMPILED)  # what it, and DistributedDataParallel, put before all names


def fitted(weights: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Weights as a model takes them: under its names, and all of those that share memory.

    Args:
        weights: of a file, saved from the model as it is, compiled, or prepared.
        model: prepared, or not.
    """
    own = bare(model).state_dict(keep_vars=True)
    return filled(renamed(weights, own), own)


def renamed(weights: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Weights under a model's names, whatever was wrapped around the one that was saved.

    Of what may be a wrapper's part of all names, as little goes as gives the most of the model's.

    Args:
        weights: by name.
        own: the model's names.

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
    """A name without what torch.compile has put in it.

    >>> plain("layers.0._orig_mod.weight")
    'layers.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _prefixes(names: Collection[str]) -> Iterator[str]:
    """What wrappers may have put before all names; at first nothing.

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
