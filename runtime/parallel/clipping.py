"""Clips gradients by their norm, also if they are divided over different meshes."""

from collections.abc import Hashable, Sequence

import torch
from torch import nn


def clip_grad_norm_(
    parameters: Sequence[torch.Tensor], max_norm: float, norm_type: float
) -> torch.Tensor:
    """Scale gradients down to a norm, which is that of all gradients of all processes.

    Args:
        parameters: the parameters, of any layouts.
        max_norm: the largest norm of all gradients together.
        norm_type: the order of the norm.

    Returns:
        The norm before scaling, a scalar.
    """
    groups = _by_mesh(parameters)
    if len(groups) <= 1:
        return _whole(nn.utils.clip_grad_norm_(parameters, max_norm, norm_type))
    norms = [_norm(group, norm_type) for group in groups]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, max_norm, norm)
    return norm


def _norm(parameters: Sequence[torch.Tensor], norm_type: float) -> torch.Tensor:
    gradients = [one.grad for one in parameters if one.grad is not None]
    return _whole(nn.utils.get_total_norm(gradients, norm_type))


def _by_mesh(parameters: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Return the parameters with gradients, in groups whose gradients have one mesh, or none."""
    groups: dict[Hashable, list[torch.Tensor]] = {}
    for one in parameters:
        if one.grad is not None:
            groups.setdefault(getattr(one.grad, "device_mesh", None), []).append(one)
    return list(groups.values())


def _whole(norm: torch.Tensor) -> torch.Tensor:
    """Return a norm as a plain tensor."""
    full: torch.Tensor = getattr(norm, "full_tensor", lambda: norm)()
    return full
