"""Finds weights that are whole on processes that compute together, and get other gradients there.

Such a weight has equal gradients if its module computes on whole activations. A module between two
divided ones, such as a norm of queries, computes on a part: each process gets the gradient of that
part only, and the copies of the weight would drift apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from runtime.collectives.objects import each_object

_SHARDED = {"dp_replicate", "dp_shard", "dp_shard_cp"}  # the dimensions of FSDP2
_SAMPLE = 64  # elements of each gradient that are compared
_ROUNDING = 0.1  # a smaller difference, relative to the largest element, is no difference
_NOISE = 1e-5  # gradients that are smaller, relative to all, are rounding errors themselves

Samples = Mapping[str, Sequence[float]]  # the name of a weight -> elements of its gradient


def must_be_equal(model: nn.Module, span: int) -> None:
    """Check that processes which compute together have equal gradients of what is whole on them.

    Args:
        model: a model that is divided, after a backward. All processes must call this.
        span: the number of processes among which it is divided.

    Raises:
        ValueError: a weight has other gradients on some of them.
    """
    name = first_difference(each_object(dict(_samples(model))), span)
    if name is not None:
        sentence = (
            f"all processes that compute together must get the same gradient of {name}, which the "
            f"plan of tensor parallelism leaves whole, but they do not (tp_size={span}): its "
            "module computes on the part of an activation that a divided module before it gives. "
            "Leave the divided modules around it out of the plan"
        )
        raise ValueError(sentence)


def first_difference(each: Sequence[Samples], span: int) -> str | None:
    """Return the name of the first weight with other gradients on some of the processes, or None.

    >>> first_difference([{"norm": [1.0]}, {"norm": [1.0]}, {"norm": [2.0]}, {"norm": [3.0]}], 2)
    'norm'

    Args:
        each: the samples of each process, in order of rank.
        span: the number of successive processes that compute together.
    """
    least = _NOISE * max((_largest(one) for own in each for one in own.values()), default=0.0)
    for rank, own in enumerate(each):
        first = each[rank // span * span]
        for name, elements in own.items():
            if _differ(first.get(name, ()), elements, least):
                return name
    return None


def _differ(one: Sequence[float], other: Sequence[float], least: float) -> bool:
    scale = max(_largest(one), _largest(other))
    difference = max((abs(x - y) for x, y in zip(one, other, strict=False)), default=0.0)
    return scale > least and difference > _ROUNDING * scale


def _largest(elements: Sequence[float]) -> float:
    return max(map(abs, elements), default=0.0)


def _samples(model: nn.Module) -> Iterator[tuple[str, list[float]]]:
    """Yield the samples of the weights that tensor parallelism leaves whole."""
    for name, parameter in model.named_parameters():
        if parameter.grad is None or parameter.grad.layout is not torch.strided:
            continue
        if _is_whole(parameter):
            yield name, _sample(parameter.grad)


def _is_whole(parameter: torch.Tensor) -> bool:
    """Whether tensor parallelism leaves a parameter whole; FSDP2 may shard it."""
    if not isinstance(parameter, DTensor):
        return True
    names = parameter.device_mesh.mesh_dim_names
    return names is not None and _SHARDED.issuperset(names)


def _sample(gradient: Any) -> list[float]:
    """Return elements of this process' gradient, from its beginning to its end."""
    own = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    flat = own.detach().reshape(-1)
    elements = flat[:: max(1, -(-len(flat) // _SAMPLE))].float()
    found: list[float] = torch.nan_to_num(elements, nan=0.0, posinf=0.0, neginf=0.0).tolist()
    return found
