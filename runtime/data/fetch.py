"""Reading whole batches of a TensorDataset with one indexing operation per tensor.

Torch's loader indexes and collates sample by sample. This module replaces that only where the
result is the same bit by bit: for torch's TensorDataset of plain tensors, or a Subset of one, with
torch's `default_collate`. The loader's attributes `dataset` and `collate_fn` do not change.
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
    """A dataset for torch's fetcher that returns batches which are already collated."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: Any) -> Any:
        """Return the batch of some samples, whose indices are a list or int64 (samples,)."""
        try:
            return self._batch(indices)
        except (IndexError, RuntimeError, TypeError):  # negative or non-integer indices
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
    """Torch's iterator without workers, which annotates batches only while a profiler is active.

    The annotation takes longer than reading a small batch.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        """Create the iterator.

        Args:
            loader: the data loader to iterate.
        """
        super().__init__(loader)
        self._profile_name = (
            f"enumerate(DataLoader)#{_SingleProcessDataLoaderIter.__name__}.__next__"
        )

    def __next__(self) -> Any:
        if profiler._is_profiler_enabled or self._dataset_kind != _DatasetKind.Map:  # noqa: SLF001  # torch has no public function for it
            return super().__next__()
        data = self._next_data()  # type: ignore[no-untyped-call]  # torch has not typed it
        self._num_yielded += 1
        return data


@contextlib.contextmanager
def by_batch(dataloader: DataLoader[Any]) -> Iterator[bool]:
    """Let iterators that are created inside the context read whole batches if possible.

    The context's value is whether they do.
    """
    if not _may_read_by_batch(dataloader):
        yield False
        return
    own = vars(dataloader)  # torch's __setattr__ forbids changing them
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
    # In a worker, the script's worker_init_fn may read the dataset from get_worker_info().
    is_seen = dataloader.num_workers and dataloader.worker_init_fn is not None
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
    """Whether `default_collate` has torch's own functions for tensors and tuples."""
    known = collate.default_collate_fn_map
    is_own = known.get(torch.Tensor) is collate.collate_tensor_fn
    return is_own and not any(issubclass(tuple, kind) for kind in known)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether indexing a tensor's rows gives the same tensor as stacking its samples."""
    return (
        type(tensor) is torch.Tensor
        and tensor.layout == torch.strided
        and not tensor.is_nested
        and not (tensor.requires_grad or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )
