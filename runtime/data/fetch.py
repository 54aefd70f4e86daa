"""Whole batches out of tensors: one indexing for each tensor, where torch goes sample by sample.

Only where it surely comes to the same, bit by bit: for torch's own TensorDataset of plain tensors,
or a Subset of one, and torch's own `default_collate`. The loader keeps the script's own objects.
"""

import contextlib
from array import array
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import profiler
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate
from torch.utils.data._utils import collate
from torch.utils.data.dataloader import _DatasetKind, _SingleProcessDataLoaderIter


class Batches:
    """What an iterator of torch's reads instead of a dataset: batches that are collated already."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: Any) -> Any:
        """The batch of these samples: a list, or int64 (samples,)."""
        try:
            return self._batch(indices)
        except (IndexError, RuntimeError, TypeError):  # numbers from the end; what is no number
            listed = indices.tolist() if isinstance(indices, torch.Tensor) else indices
            return default_collate([self.dataset[index] for index in listed])

    def _batch(self, indices: Any) -> list[torch.Tensor]:
        dataset = self.dataset
        while isinstance(dataset, Subset):
            listed = indices.tolist() if isinstance(indices, torch.Tensor) else indices
            indices = [dataset.indices[index] for index in listed]
            dataset = dataset.dataset
        rows = indices if isinstance(indices, torch.Tensor) else _rows(indices)
        return [tensor.index_select(0, rows) for tensor in dataset.tensors]


def _rows(indices: list[Any]) -> torch.Tensor:
    if set(map(type, indices)) != {int}:
        raise TypeError
    return torch.frombuffer(array("q", indices), dtype=torch.int64)


class InProcess(_SingleProcessDataLoaderIter):
    """Torch's iterator without workers, which marks its batches only for a profiler that is on.

    A mark costs more than a small batch.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        """Args: loader: of torch's kind."""
        super().__init__(loader)
        self._profile_name = (
            f"enumerate(DataLoader)#{_SingleProcessDataLoaderIter.__name__}.__next__"
        )

    def __next__(self) -> Any:
        if profiler._is_profiler_enabled or self._dataset_kind != _DatasetKind.Map:  # noqa: SLF001  # torch's only sign of it
            return super().__next__()
        data = self._next_data()  # type: ignore[no-untyped-call]  # torch has not typed it
        self._num_yielded += 1
        return data


@contextlib.contextmanager
def by_batch(dataloader: DataLoader[Any]) -> Iterator[bool]:
    """Within, an iterator that is made of a data loader reads whole batches; whether it may."""
    if not _may_read_by_batch(dataloader):
        yield False
        return
    own = vars(dataloader)  # torch lets nobody set them
    kept = {name: own[name] for name in ("dataset", "collate_fn")}
    own |= {"dataset": Batches(kept["dataset"]), "collate_fn": _as_it_is}
    try:
        yield True
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
