"""Gather evaluation results from all processes, without the samples that fill the last batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from runtime.collectives import tensors
from runtime.collectives.nested import honor_type, leaves, map_items, map_tensors
from runtime.collectives.objects import each_object
from runtime.world.coordinate import DataCoordinate
from runtime.world.gradient_state import GradientState
from runtime.world.mappings import remade
from runtime.world.state import PartialState


def gather_for_metrics(input_data: Any, use_gather_object: bool = False, *, parts: int = 1) -> Any:
    """Gather results from all processes, without those of samples that fill the last batch.

    Of processes that train on the same batches, the results of the first one count; if each has
    those of its part of the sequences, the results of the first one with each part.

    Args:
        input_data: nested tensors, or a list with one object of any type per sample, or lists,
            tuples and dicts of both.
        use_gather_object: whether tensors are gathered as objects, so that their shapes may differ.
        parts: the number of parts of the sequences of a batch.

    Returns:
        The results of all processes, in order of rank; those of the first parts come first.

    Raises:
        TypeError: the data contains an object that is neither a tensor nor a list of samples.
    """
    state = PartialState()
    loader = GradientState().active_dataloader
    is_last = loader is not None and loader.end_of_dataloader
    own = state.coordinate
    ranks = own.size - (loader.padding_ranks if is_last else 0)
    real = _samples_of_last(loader) if is_last else 0
    if not state.use_distributed:
        return _cut(input_data, real, use_gather_object) if real else input_data
    are_tensors = all(isinstance(leaf, torch.Tensor) for leaf in leaves(input_data))
    if use_gather_object or not are_tensors:
        each = _by_part(each_object(input_data), own, parts)
        return _joined([_joined(list(one)[:ranks], real or None) for one in each], None)
    kept = _Kept(ranks, own, real, parts)
    return map_tensors(kept, tensors.gather(input_data))


def _samples_of_last(loader: Any) -> int:
    """Return the number of samples in the last global batch; 0 if it is full or unknown."""
    real = max(loader.remainder, 0)
    return 0 if real == loader.total_batch_size else real


def _cut(data: Any, real: int, are_objects: bool) -> Any:
    """Return a single process' results, cut to the number of samples in the last batch.

    A script may produce more rows than samples: transformers repeats a loss for each sample of a
    full batch.

    Args:
        data: the argument of `gather_for_metrics`.
        real: the number of samples in the last batch.
        are_objects: whether each tensor in a list is one sample, rather than rows of samples.
    """
    if isinstance(data, torch.Tensor):
        return data[:real] if data.ndim else data
    is_of_samples = are_objects and isinstance(data, list | tuple) and not _is_of_columns(data)
    are_tensors = all(isinstance(leaf, torch.Tensor) for leaf in leaves(data))
    if isinstance(data, Mapping) or (are_tensors and not is_of_samples):
        return map_items(lambda item: _cut(item, real, are_objects), data)
    return data[:real] if is_of_samples or isinstance(data, list) else data


def _is_of_columns(data: Any) -> bool:
    """Whether data is a tuple that has a tensor or a list for each kind of result."""
    return isinstance(data, tuple) and all(isinstance(one, torch.Tensor | list) for one in data)


class _Kept:
    """A function that drops the rows of a gathered tensor that fill the last batch, and copies."""

    def __init__(self, ranks: int, own: DataCoordinate, real: int, parts: int) -> None:
        self.ranks, self.own, self.real, self.parts = ranks, own, real, parts

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.own.span == 1 or not len(tensor):
            return self._cut(tensor)
        shares = tensor.chunk(self.own.num_processes)
        each = _by_part(shares, self.own, self.parts)
        return torch.cat([self._cut(torch.cat(list(one))) for one in each])

    def _cut(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.ranks < self.own.size:
            tensor = tensor[: len(tensor) // self.own.size * self.ranks]
        return tensor[: self.real] if self.real else tensor


def _by_part(shares: Sequence[Any], own: DataCoordinate, parts: int) -> Iterator[Sequence[Any]]:
    """Yield, for each part of the sequences, the shares of the first processes that have it."""
    for part in range(parts):
        yield own.one_of_each(shares[part * own.span // parts :])


def _joined(shares: list[Any], keep: int | None) -> Any:
    """Concatenate the objects of all processes, in order of rank.

    Dicts are joined key by key, and tuples of tensors and lists item by item.

    Args:
        shares: the object of each process.
        keep: the number of samples to keep; None keeps all.
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
        f"gather_for_metrics takes tensors, lists with one object per sample, and dicts and tuples "
        f"of these, got {type(sample).__name__}"
    )
    raise TypeError(sentence)
