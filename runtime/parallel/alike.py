"""Weights and buffers that all processes must have alike before a model is divided among them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed, nn

from runtime.collectives.objects import each_object
from runtime.world.warn import warn_once

_SAMPLE = 2**16  # elements of each parameter that ranks compare
_DIFFERENT = "weights or buffers differ between ranks before {}: all ranks get those of rank 0"


def differ(model: nn.Module) -> bool:
    """Whether ranks have other weights or buffers than rank 0. All ranks must call this.

    Args:
        model: the model; a rank on which values are missing counts as different.
    """
    return _differ([*model.parameters(), *model.buffers()], 1)


def _differ(tensors: Sequence[torch.Tensor], span: int) -> bool:
    """Whether the tensors of some rank differ from those of the first congruent one modulo span."""
    samples = [str(one) for one in each_object(_sample(tensors))]
    return any(one != samples[rank % span] for rank, one in enumerate(samples))


def warn_of_difference(before: str) -> None:
    """Warn that ranks have different weights or buffers, which are replaced.

    Args:
        before: what is about to be done with the model.
    """
    warn_once(_DIFFERENT.format(before))


def begin_alike(model: nn.Module, device: torch.device) -> None:
    """Give all ranks the weights and buffers of rank 0, if they differ.

    Args:
        model: the model; no weight may be missing.
        device: a device whose tensors can be sent.
    """
    if not differ(model):
        return
    warn_of_difference("tensor parallelism")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            sent = tensor.detach().to(device).contiguous()
            distributed.broadcast(sent, 0)
            tensor.copy_(sent)


def must_be_alike(model: nn.Module, span: int) -> None:
    """Check that a model which the script has divided has the same weights on all replicas.

    Args:
        model: the model.
        span: the number of processes among which it is divided.

    Raises:
        ValueError: some replica has other weights.
    """
    if _differ(list(model.parameters()), span):
        sentence = (
            "the script has divided a model whose weights differ between data-parallel ranks: seed "
            "all processes alike, or load the same weights, before it is divided"
        )
        raise ValueError(sentence)


def _sample(tensors: Sequence[torch.Tensor]) -> list[int] | None:
    """Return checksums that differ for values of different seeds; None if values are missing."""
    if any(one.is_meta for one in tensors):
        return None
    return [_checksum(one) for one in tensors]


def _checksum(tensor: Any) -> int:
    own = getattr(tensor, "to_local", lambda: tensor)()
    if own.layout is not torch.strided:
        return 0
    head = own.detach().resolve_conj().resolve_neg().reshape(-1)[:_SAMPLE].contiguous()
    return int(head.view(torch.uint8).sum(dtype=torch.int64))
