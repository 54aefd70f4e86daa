"""Weights that all processes must have alike before a model is divided among them."""

from typing import Any

import torch
from torch import distributed, nn

from runtime.collectives.objects import each_object
from runtime.world.warn import warn_once

_SAMPLE = 2**16  # elements of each parameter that ranks compare
_DIFFERENT = "weights differ between ranks before {}: all ranks get those of rank 0"


def differ(model: nn.Module, *, span: int = 1) -> bool:
    """Whether ranks have other weights than rank 0. All ranks must call this.

    Args:
        model: the model; a rank on which weights are missing counts as different.
        span: compares only ranks that are congruent modulo this number.
    """
    samples = [str(one) for one in each_object(_sample(model))]
    return any(one != samples[rank % span] for rank, one in enumerate(samples))


def warn_of_difference(before: str) -> None:
    """Warn that ranks have different weights, which are replaced.

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
    if differ(model, span=span):
        sentence = (
            "the script has divided a model whose weights differ between data-parallel ranks: seed "
            "all processes alike, or load the same weights, before it is divided"
        )
        raise ValueError(sentence)


def _sample(model: nn.Module) -> list[int] | None:
    """Return checksums that differ for weights of different seeds; None if weights are missing."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return None
    return [_checksum(parameter) for parameter in model.parameters()]


def _checksum(parameter: Any) -> int:
    own = getattr(parameter, "to_local", lambda: parameter)()
    head = own.detach().reshape(-1)[:_SAMPLE].contiguous()
    return int(head.view(torch.uint8).sum(dtype=torch.int64))
