"""Results of an evaluation from all processes: each sample once, whatever was added to even out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from runtime.collectives import tensors
from runtime.collectives.nested import honor_type, leaves, map_items, map_tensors
from runtime.collectives.objects import each_object
from runtime.world.gradient_state import GradientState
from runtime.world.mappings import remade
from runtime.world.state import PartialState


def gather_for_metrics(input_data: Any, use_gather_object: bool = False) -> Any:
    """Gather, and leave out what was added to the last batch to even it out.

    Args:
        input_data: tensors, however nested; or a list of any objects, one a sample; or lists,
            tuples and dicts of both.
        use_gather_object: treat tensors as objects, too: they may differ in shape.

    Raises:
        TypeError: an object that is neither a tensor nor a list of samples.
    """
    state = PartialState()
    loader = GradientState().active_dataloader
    is_last = loader is not None and loader.end_of_dataloader
    ranks = state.num_processes - (loader.padding_ranks if is_last else 0)
    real = _samples_of_last(loader) if is_last else 0
    if not state.use_distributed:
        return _cut(input_data, real, use_gather_object) if real else input_data
    are_tensors = all(isinstance(leaf, torch.Tensor) for leaf in leaves(input_data))
    if use_gather_object or not are_tensors:
        return _joined(each_object(input_data)[:ranks], real or None)
    kept = _Kept(ranks, state.num_processes, real)
    return map_tensors(kept, tensors.gather(input_data))


def _samples_of_last(loader: Any) -> int:
    """Samples in the last batch of all processes; 0: it is whole, or it cannot be told."""
    real = max(loader.remainder, 0)
    return 0 if real == loader.total_batch_size else real


def _cut(data: Any, real: int, are_objects: bool) -> Any:
    """What a process alone has, with no more rows than there are samples in the last batch.

    A script may make rows by itself: transformers repeats a loss for each sample of a whole batch.

    Args:
        data: as for `gather_for_metrics`.
        real: samples in the last batch.
        are_objects: a tensor in a list is one sample, not rows of several.
    """
    if isinstance(data, torch.Tensor):
        return data[:real] if data.ndim else data
    is_of_samples = are_objects and isinstance(data, list | tuple) and not _is_of_columns(data)
    are_tensors = all(isinstance(leaf, torch.Tensor) for leaf in leaves(data))
    if isinstance(data, Mapping) or (are_tensors and not is_of_samples):
        return map_items(lambda item: _cut(item, real, are_objects), data)
    return data[:real] if is_of_samples or isinstance(data, list) else data


def _is_of_columns(data: Any) -> bool:
    """Whether it is a tuple with a tensor or a list for each kind of result."""
    return isinstance(data, tuple) and all(isinstance(one, torch.Tensor | list) for one in data)


class _Kept:
    """The rows of a gathered tensor that stand for samples."""

    def __init__(self, ranks: int, world_size: int, real: int) -> None:
        self.ranks, self.world_size, self.real = ranks, world_size, real

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.ranks < self.world_size:
            tensor = tensor[: len(tensor) // self.world_size * self.ranks]
        return tensor[: self.real] if self.real else tensor


def _joined(shares: list[Any], keep: int | None) -> Any:
    """The samples of all processes, in order of rank, as many as are to be kept.

    Dicts are joined key by key, and tuples of tensors and lists item by item.
    """
    sample = shares[0]
    if isinstance(sample, Mapping):
        joined = {key: _joined([share[key] for share in shares], keep) for key in sample}
        return remade(sample, joined)
    if isinstance(sample, torch.Tensor):
        rows = [share.reshape(1) if share.ndim == 0 else share for share in shares]
        return torch.cat([row.to(rows[0].device) for row in rows])[:keep]
    if _is_of_columns(sample):
        columns = zip(*shares, strict=True)
        return honor_type(sample, (_joined(list(column), keep) for column in columns))
    if isinstance(sample, Sequence) and not isinstance(sample, str | bytes):
        return [item for share in shares for item in share][:keep]
    sentence = (
        f"gather_for_metrics takes tensors, lists with one object a sample, and dicts and tuples "
        f"of these, got {type(sample).__name__}"
    )
    raise TypeError(sentence)
