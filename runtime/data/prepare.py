"""Create a process' data loader from the script's data loader."""

import logging
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from runtime.config.arguments import must_have, whole
from runtime.config.availability import is_present
from runtime.config.enums import RNGType
from runtime.config.plugins import DataLoaderConfiguration
from runtime.data.batch_samplers import BatchSamplerShard, SkipBatchSampler
from runtime.data.choosing import batch_sampler_of
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.iterable import IterableDatasetShard
from runtime.data.loader import DataLoaderShard, SkipDataLoader
from runtime.data.plan import LoaderPlan, plan_of
from runtime.world.state import PartialState

Loader = TypeVar("Loader", bound=DataLoaderShard | DataLoaderDispatcher)

log = logging.getLogger(__name__)

# The arguments of torch.utils.data.DataLoader that are copied from the script's loader.
_COPIED = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers", "pin_memory_device"),
    "in_order",
)

_SETTINGS = ("use_stateful_dataloader", "_drop_last", "_non_blocking", "iteration")
_KEPT: dict[
    type[DataLoaderDispatcher | DataLoaderShard], tuple[str, ...]
] = {  # the arguments that `skip_first_batches` also copies from a prepared loader
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
    shuffle: Literal["torch", "keyed"] = "torch",
) -> DataLoaderShard | DataLoaderDispatcher:
    """Create this process' data loader from the script's data loader.

    Args:
        dataloader: the script's data loader, which must be the same on all processes.
        device: the device of this process.
        num_processes: the number of processes that read different batches; default: all, or with
            a ParallelismConfig its `data_parallel_size`.
        process_index: the rank of this process among them; default: its data-parallel rank.
        split_batches: whether the script's batch size is that of all processes together.
        put_on_device: whether batches are moved to the device.
        rng_types: the random generators that are synchronized at the start of each epoch.
        dispatch_batches: whether rank 0 reads the batches for all processes; default: only for an
            iterable dataset whose batches are moved to the device.
        even_batches: whether to wrap around at the end, so that all processes have the same number
            of batches.
        slice_fn_for_dispatch: the function with which rank 0 divides a batch.
        use_seedable_sampler: whether random orders depend on the seed and the epoch only.
        data_seed: that seed; default: rank 0's torch seed.
        non_blocking: whether batches are copied to the device without waiting.
        use_stateful_dataloader: whether the result is an instance of torchdata's
            StatefulDataLoader, too; every prepared loader has a state.
        torch_device_mesh: accepted for compatibility and ignored: the ParallelismConfig of the
            Accelerator says which processes read the same batches.
        shuffle: `torch` draws random orders as torch does; `keyed` computes different orders, in
            constant time and memory per index.

    Raises:
        ImportError: `use_stateful_dataloader` is set, and torchdata is not installed.
        ValueError: batches cannot be split evenly, arguments contradict each other, or a state was
            loaded into the script's loader.
    """
    own = PartialState().coordinate
    config = DataLoaderConfiguration(
        split_batches=split_batches,
        dispatch_batches=dispatch_batches,
        even_batches=even_batches,
        use_seedable_sampler=use_seedable_sampler,
        data_seed=data_seed,
        non_blocking=non_blocking,
        shuffle=shuffle,
    )
    plan = plan_of(
        dataloader,
        config,
        world_size=own.size if num_processes is None else num_processes,
        rank=own.rank if process_index is None else process_index,
        device=device,
        put_on_device=put_on_device,
        rng_types=rng_types,
        slice_fn=slice_fn_for_dispatch,
    )
    _check_state(dataloader)
    make = _dispatched if plan.is_dispatched else _sharded
    return make(
        dataloader,
        plan,
        use_stateful_dataloader=use_stateful_dataloader,
        torch_device_mesh=torch_device_mesh,
        _drop_last=dataloader.drop_last,
        _non_blocking=plan.non_blocking,
    )


def _dispatched(
    dataloader: DataLoader[Any], plan: LoaderPlan, **options: Any
) -> DataLoaderDispatcher:
    """Create the loader that rank 0 reads for all; it reads like a single process."""
    copied = _copied(dataloader)
    del copied["generator"]  # as in Accelerate, the default generators are used
    alone = replace(plan, world_size=1, rank=0, split_batches=False, even_batches=False)
    kind = _class_of(DataLoaderDispatcher, options["use_stateful_dataloader"])
    return kind(
        split_batches=plan.split_batches,
        slice_fn=plan.slice_fn,
        **(copied | _read(dataloader, alone) | options),
    )


def _sharded(dataloader: DataLoader[Any], plan: LoaderPlan, **options: Any) -> DataLoaderShard:
    """Create the loader of which each rank reads its own shard."""
    kind = _class_of(DataLoaderShard, options["use_stateful_dataloader"])
    return kind(
        device=plan.device,
        rng_types=None if plan.rng_types is None else list(plan.rng_types),
        synchronized_generator=plan.generator,
        **(_copied(dataloader) | _read(dataloader, plan) | options),
    )


def _class_of(kind: type[Loader], is_stateful: bool) -> type[Loader]:
    """Return the class of a loader, or the one that is torchdata's StatefulDataLoader, too.

    Raises:
        ImportError: torchdata is not installed.
    """
    if not is_stateful:
        return kind
    if not is_present("torchdata_stateful_dataloader"):
        sentence = (
            "use_stateful_dataloader=True needs torchdata 0.8 or above: pip install "
            "acceleratedjob[torchdata]. Every prepared data loader has a state; the setting only "
            "makes it an instance of torchdata's StatefulDataLoader"
        )
        raise ImportError(sentence)
    from runtime.data import stateful  # noqa: PLC0415  # torchdata is optional

    found: type[Loader] = getattr(stateful, f"Stateful{kind.__name__}")
    return found


def _check_state(dataloader: DataLoader[Any]) -> None:
    """Check that no state was loaded into a StatefulDataLoader, which `prepare` cannot translate.

    Raises:
        ValueError: a state was loaded.
    """
    if getattr(dataloader, "next_iter_state", None) is not None:
        sentence = (
            "prepare() takes a StatefulDataLoader without a loaded state, got one into which a "
            "state was loaded: save and load the state of the prepared data loader, or use "
            "save_state and load_state of the Accelerator"
        )
        raise ValueError(sentence)


def _copied(dataloader: DataLoader[Any]) -> dict[str, Any]:
    return {name: getattr(dataloader, name) for name in _COPIED if hasattr(dataloader, name)}


def _read(dataloader: DataLoader[Any], plan: LoaderPlan) -> dict[str, Any]:
    """Return the arguments with which torch's DataLoader reads this rank's shard."""
    if isinstance(dataloader.dataset, IterableDataset):
        return _read_stream(dataloader, plan)
    batches: Any = _batches(dataloader)
    if plan.world_size > 1:
        batches = _sharded_batches(dataloader, plan)
    if isinstance(dataloader.sampler, BatchSampler) or dataloader.batch_sampler is None:
        return {"dataset": dataloader.dataset, "sampler": batches, "batch_size": None}
    return {"dataset": dataloader.dataset, "batch_sampler": batches}


def _read_stream(dataloader: DataLoader[Any], plan: LoaderPlan) -> dict[str, Any]:
    shard = IterableDatasetShard(
        dataloader.dataset,
        dataloader.batch_size,
        dataloader.drop_last,
        plan.world_size,
        plan.rank,
        plan.split_batches,
        even=plan.world_size > 1,
    )
    batch_size = None if dataloader.batch_size is None else shard.layout.own_batch
    return {"dataset": shard, "batch_size": batch_size, "drop_last": dataloader.drop_last}


def _batches(dataloader: DataLoader[Any]) -> Any:
    return dataloader.sampler if dataloader.batch_sampler is None else dataloader.batch_sampler


def _sharded_batches(dataloader: DataLoader[Any], plan: LoaderPlan) -> BatchSamplerShard:
    batches = batch_sampler_of(dataloader)
    if batches is None:
        sentence = (
            f"a data loader with batch_size=None needs a BatchSampler as its sampler, so that "
            f"its batches can be dealt to {plan.world_size} processes"
        )
        raise ValueError(sentence)
    shard = BatchSamplerShard(
        batches, plan.world_size, plan.rank, plan.split_batches, plan.even_batches
    )
    if plan.even_batches and plan.rank == 0:
        _tell_of_copies(shard)
    return shard


def _tell_of_copies(dealt: BatchSamplerShard) -> None:
    """Log a warning if an epoch is so short that some ranks get only repeated samples."""
    samples = dealt.expected_remainder
    if samples <= 0 or len(dealt) != 1:
        return
    with_own = -(-samples // dealt.layout.own_batch)
    if with_own < dealt.num_processes:
        sentence = (
            "an epoch has only %d samples and is filled to %d with copies, so ranks >= %d get "
            "nothing but copies: use smaller batches, fewer processes or even_batches=False"
        )
        log.warning(sentence, samples, dealt.layout.global_batch, with_own)


def skip_first_batches(dataloader: DataLoader[Any], num_batches: int = 0) -> DataLoader[Any]:
    """Return a data loader that equals another one but skips its first batches in each pass.

    The skipped batches are not read, unless the dataset can only be iterated. If the data loader is
    prepared, a pass over the new one counts as an epoch of it: a checkpoint contains the position
    in that epoch, and the next pass over the original loader is the next epoch.

    Args:
        dataloader: the data loader, prepared or not.
        num_batches: the number of batches of this process to skip.

    Raises:
        TypeError: an argument is of a wrong kind.
        ValueError: the number is negative.
    """
    must_have(dataloader, "dataset", "skip_first_batches()", "a DataLoader")
    num_batches = whole(num_batches, "skip_first_batches()", "the number of batches")
    if num_batches < 0:
        sentence = f"skip_first_batches() takes at least 0 batches, got {num_batches}"
        raise ValueError(sentence)
    copied = _copied(dataloader)
    copied |= {"dataset": dataloader.dataset} | _without_first(dataloader, num_batches)
    if not isinstance(dataloader, DataLoaderDispatcher | DataLoaderShard):
        return (SkipDataLoader if "skip_batches" in copied else DataLoader)(**copied)
    kind = next(kind for kind in _KEPT if isinstance(dataloader, kind))
    kept = {name: getattr(dataloader, name) for name in _KEPT[kind]}
    made = _class_of(kind, dataloader.use_stateful_dataloader)(**(copied | kept))
    made.behind(dataloader)
    return made


def _without_first(dataloader: DataLoader[Any], num_batches: int) -> dict[str, Any]:
    """Return the arguments with which a loader reads the same without the first batches."""
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
