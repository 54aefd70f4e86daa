"""Whole batches out of tensors: one indexing for each tensor, where torch goes sample by sample.

Only where it surely comes to the same, bit by bit: for torch's own TensorDataset of plain tensors,
or a Subset of one, and torch's own `default_collate`. The loader keeps the script's own objects.
"""

import contextlib
from array import array
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate
from torch.utils.data._utils import collate


class Batches:
    """What an iterator of torch's reads instead of a dataset: batches that are collated already."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: list[Any]) -> Any:
        """The batch of these samples."""
        try:
            return self._batch(indices)
        except (IndexError, RuntimeError, TypeError):  # numbers from the end; what is no number
            return default_collate([self.dataset[index] for index in indices])

    def _batch(self, indices: list[Any]) -> list[torch.Tensor]:
        dataset = self.dataset
        while isinstance(dataset, Subset):
            indices = [dataset.indices[index] for index in indices]
            dataset = dataset.dataset
        if set(map(type, indices)) != {int}:
            raise TypeError
        rows = torch.frombuffer(array("q", indices), dtype=torch.int64)
        return [tensor.index_select(0, rows) for tensor in dataset.tensors]


@contextlib.contextmanager
def by_batch(dataloader: DataLoader[Any]) -> Iterator[None]:
    """Within, an iterator that is made of a data loader reads whole batches, if it may."""
    if not _may_read_by_batch(dataloader):
        yield
        return
    own = vars(dataloader)  # torch lets nobody set them
    kept = {name: own[name] for name in ("dataset", "collate_fn")}
    own |= {"dataset": Batches(kept["dataset"]), "collate_fn": _as_it_is}
    try:
        yield
    finally:
        own |= kept


def _as_it_is(batch: Any) -> Any:
    return batch


def _may_read_by_batch(dataloader: DataLoader[Any]) -> bool:
    dataset = dataloader.dataset
    while type(dataset) is Subset:
        dataset = dataset.dataset
    is_seen = dataloader.num_workers and dataloader.worker_init_fn is not None  # in a worker
    return (
        type(dataset) is TensorDataset
        and not is_seen
        and "__getitems__" not in vars(dataset)
        and dataloader.batch_sampler is not None
        and dataloader.collate_fn is default_collate
        and _collates_as_torch()
        and all(map(_is_plain, dataset.tensors))
    )


def _collates_as_torch() -> bool:
    """Whether a script has not told `default_collate` what to do with tensors or tuples."""
    known = collate.default_collate_fn_map
    is_own = known.get(torch.Tensor) is collate.collate_tensor_fn
    return is_own and not any(issubclass(tuple, kind) for kind in known)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether its rows, one after the other, are as torch would stack them."""
    return (
        type(tensor) is torch.Tensor
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )
