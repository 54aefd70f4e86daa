"""Making this process' data loader out of the script's."""

import logging
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from runtime.config.enums import RNGType
from runtime.data.adapter import batch_sampler_of
from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler
from runtime.data.choosing import followed_sampler, synchronized_generator
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.iterable import IterableDatasetShard
from runtime.data.loader import DataLoaderShard, SkipDataLoader
from runtime.data.rng import GENERATOR, check_rng_types
from runtime.world.state import PartialState

log = logging.getLogger(__name__)

# What a loader takes over from the script's own, as torch.utils.data.DataLoader names it.
_COPIED = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers", "pin_memory_device"),
    "in_order",
)

_SETTINGS = ("use_stateful_dataloader", "_drop_last", "_non_blocking", "iteration")
_KEPT: dict[
    type[DataLoaderDispatcher | DataLoaderShard], tuple[str, ...]
] = {  # and what one that skips takes over from a prepared one
    DataLoaderDispatcher: ("split_batches", "slice_fn", *_SETTINGS),
    DataLoaderShard: ("device", "rng_types", "synchronized_generator", *_SETTINGS),
}


def prepare_data_loader(
    dataloader: DataLoader[Any],
    device: torch.device | None = None,
    num_processes: int | None = None,
    process_index: int | None = None,
    split_batches: bool = False,
    put_on_device: bool = False,
    rng_types: list[str | RNGType] | None = None,
    dispatch_batches: bool | None = None,
    even_batches: bool = True,
    slice_fn_for_dispatch: Any = None,
    use_seedable_sampler: bool = False,
    data_seed: int | None = None,
    non_blocking: bool = False,
    use_stateful_dataloader: bool = False,
    torch_device_mesh: Any = None,
    *,
    shuffle: str = "torch",
) -> DataLoaderShard | DataLoaderDispatcher:
    """Make this process' data loader out of the script's.

    Args:
        dataloader: the same on all processes.
        device: of this process.
        num_processes: of the world; by default all.
        process_index: this rank.
        split_batches: the script's batch size is that of all processes together.
        put_on_device: whether batches go to the device.
        rng_types: random generators that are set alike at each new iteration.
        dispatch_batches: rank 0 reads for all; by default for an iterable dataset whose batches
            go to the device.
        even_batches: wrap around at the end, so that all processes have as many batches.
        slice_fn_for_dispatch: how rank 0 divides a batch.
        use_seedable_sampler: draw the order from the seed and the epoch alone.
        data_seed: that seed; by default rank 0's torch seed.
        non_blocking: copy to the device without waiting.
        use_stateful_dataloader: accepted; each prepared loader has its state.
        torch_device_mesh: accepted where it is one of data parallelism alone.
        shuffle: `torch` draws random orders as torch does; `keyed` computes others, in constant
            time and memory.

    Raises:
        ValueError: batches cannot be split evenly, or arguments contradict each other.
    """
    state = PartialState()
    size = state.num_processes if num_processes is None else num_processes
    rank = state.process_index if process_index is None else process_index
    if dispatch_batches is None:
        dispatch_batches = put_on_device and isinstance(dataloader.dataset, IterableDataset)
    if dispatch_batches and not put_on_device:
        sentence = "Using `dispatch_batches=True` requires `put_on_device=True`."
        raise ValueError(sentence)
    if split_batches:
        _check_split(dataloader, size)
    sampler = followed_sampler(
        dataloader, seedable=use_seedable_sampler, seed=data_seed, shuffle=shuffle
    )
    copied = {name: getattr(dataloader, name) for name in _COPIED if hasattr(dataloader, name)}
    common = {
        "use_stateful_dataloader": use_stateful_dataloader,
        "_drop_last": dataloader.drop_last,
        "_non_blocking": non_blocking,
        "torch_device_mesh": torch_device_mesh,
    }
    if dispatch_batches:
        del copied["generator"]  # as Accelerate: all processes draw from their default one
        parts = _parts(dataloader, size=1, rank=0, split=False, even=False)
        more = {"split_batches": split_batches, "slice_fn": slice_fn_for_dispatch}
        return DataLoaderDispatcher(**(copied | parts | common | more))
    generator = synchronized_generator(dataloader, sampler, size)
    parts = _parts(dataloader, size=size, rank=rank, split=split_batches, even=even_batches)
    return DataLoaderShard(
        device=device if put_on_device else None,
        rng_types=_kept(rng_types, generator),
        synchronized_generator=generator,
        **(copied | parts | common),
    )


def _check_split(dataloader: DataLoader[Any], size: int) -> None:
    batch_size = dataloader.batch_size or getattr(batch_sampler_of(dataloader), "batch_size", None)
    if batch_size is None:
        sentence = (
            "In order to use `split_batches==True` you must have a `batch_size` attribute either "
            "in the passed `dataloader` or `dataloader.batch_sampler` objects"
        )
        raise ValueError(sentence)
    if batch_size % size:
        sentence = (
            f"To use a `DataLoader` in `split_batches` mode, the batch size ({batch_size}) needs "
            f"to be a round multiple of the number of processes ({size})."
        )
        raise ValueError(sentence)


def _kept(
    rng_types: list[str | RNGType] | None, generator: torch.Generator | None
) -> list[str] | None:
    if rng_types is None:
        return None
    types = check_rng_types(rng_types)
    return [kind for kind in types if kind != GENERATOR or generator is not None]


def _parts(
    dataloader: DataLoader[Any],
    *,
    size: int,
    rank: int,
    split: bool,
    even: bool,
) -> dict[str, Any]:
    """What the new loader reads: a rank's part of what the script's loader does."""
    dataset = dataloader.dataset
    if isinstance(dataset, IterableDataset):
        batch_size = dataloader.batch_size
        drop_last = dataloader.drop_last
        shard = IterableDatasetShard(
            dataset, batch_size, drop_last, size, rank, split, even=size > 1
        )
        return {
            "dataset": shard,
            "batch_size": None if batch_size is None else shard.layout.own_batch,
            "drop_last": drop_last,
        }
    read = dataloader.sampler if dataloader.batch_sampler is None else dataloader.batch_sampler
    if size > 1:
        batches = batch_sampler_of(dataloader)
        if batches is None:
            sentence = (
                f"a data loader with batch_size=None needs a BatchSampler as its sampler, so that "
                f"its batches can be dealt to {size} processes"
            )
            raise ValueError(sentence)
        read = BatchSamplerShard(batches, size, rank, split, even)
        if even and rank == 0:
            _tell_of_copies(read)
    if isinstance(dataloader.sampler, BatchSampler) or dataloader.batch_sampler is None:
        return {"dataset": dataset, "sampler": read, "batch_size": None}
    return {"dataset": dataset, "batch_sampler": read}


def _tell_of_copies(dealt: BatchSamplerShard) -> None:
    """Say it if an epoch is so short that some ranks are given nothing but other ranks' samples."""
    samples = dealt.expected_remainder
    if samples <= 0 or len(dealt) != 1:
        return
    with_own = -(-samples // dealt.layout.own_batch)
    if with_own < dealt.num_processes:
        sentence = (
            "an epoch of %d samples is filled up to %d, and the ranks from %d on are given copies "
            "alone: take smaller batches or fewer processes, or even_batches=False"
        )
        log.warning(sentence, samples, dealt.layout.global_batch, with_own)


def skip_first_batches(dataloader: DataLoader[Any], num_batches: int = 0) -> DataLoader[Any]:
    """A data loader like another, without its first batches in each pass.

    Nothing is read to get there, unless the dataset can only be gone through. A pass through a
    prepared one counts as an epoch of the other: a checkpoint has its position, and what comes
    behind it is the next epoch.

    Args:
        dataloader: prepared, or not.
        num_batches: batches of this process to leave out.
    """
    copied = {name: getattr(dataloader, name) for name in _COPIED if hasattr(dataloader, name)}
    copied |= {"dataset": dataloader.dataset} | _without_first(dataloader, num_batches)
    if not isinstance(dataloader, DataLoaderDispatcher | DataLoaderShard):
        return (SkipDataLoader if "skip_batches" in copied else DataLoader)(**copied)
    kind = next(kind for kind in _KEPT if isinstance(dataloader, kind))
    kept = {name: getattr(dataloader, name) for name in _KEPT[kind]}
    made = kind(**(copied | kept))
    made.behind(dataloader)
    return made


def _without_first(dataloader: DataLoader[Any], num_batches: int) -> dict[str, Any]:
    """How torch's DataLoader is told to read the same without its first batches."""
    if isinstance(dataloader.dataset, IterableDataset):
        size = {"batch_size": dataloader.batch_size, "drop_last": dataloader.drop_last}
        return size | {"skip_batches": num_batches}
    width = dataloader.width if isinstance(dataloader, DataLoaderDispatcher) else 1
    read = batch_sampler_of(dataloader)
    if read is None:  # batch_size=None: each index is a batch
        read = dataloader.sampler
    skipping = SkipBatchSampler(read, num_batches * width)
    if dataloader.batch_sampler is None:
        return {"sampler": skipping, "batch_size": None}
    return {"batch_sampler": skipping}
