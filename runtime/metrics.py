"""Results of an evaluation from all processes: each sample once, whatever was added to even out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from runtime import collectives
from runtime.nested import leaves, map_tensors
from runtime.state import GradientState, PartialState


def gather_for_metrics(data: Any, as_objects: bool = False) -> Any:
    """Gather, and leave out what was added to the last batch to even it out.

    Args:
        data: tensors, however nested; or a list of any objects, one a sample; or a dict of both.
        as_objects: treat tensors as objects, too: they may differ in shape.

    Raises:
        TypeError: an object that is neither a tensor nor a list of samples.
    """
    if not PartialState().use_distributed:
        return data
    as_tensors = not as_objects and all(isinstance(leaf, torch.Tensor) for leaf in leaves(data))
    gathered = collectives.gather(data) if as_tensors else _gather_objects(data)
    progress = GradientState()
    keep = progress.remainder
    if not progress.end_of_dataloader or keep <= 0:
        return gathered
    if as_tensors:
        return map_tensors(lambda tensor: tensor[:keep], gathered)
    return _head(gathered, keep)


def _gather_objects(data: Any) -> Any:
    return _joined(collectives.gather_object([data]))


def _joined(shares: list[Any]) -> Any:
    """The samples of all processes, in order of rank; a dict key by key."""
    sample = shares[0]
    if isinstance(sample, Mapping):
        return {key: _joined([share[key] for share in shares]) for key in sample}
    if isinstance(sample, torch.Tensor):
        return torch.cat([share.reshape(1) if share.ndim == 0 else share for share in shares])
    if isinstance(sample, Sequence) and not isinstance(sample, str | bytes):
        return [item for share in shares for item in share]
    sentence = (
        f"gather_for_metrics takes tensors, lists with one object a sample, and dicts of these, "
        f"got {type(sample).__name__}"
    )
    raise TypeError(sentence)


def _head(gathered: Any, keep: int) -> Any:
    if isinstance(gathered, Mapping):
        return {key: _head(value, keep) for key, value in gathered.items()}
    return gathered[:keep]
