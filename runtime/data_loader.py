"""Data loaders of which each process reads its own part, on its own device."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler

from runtime.collectives import broadcast_object_list
from runtime.nested import send_to_device
from runtime.rng import GENERATOR, synchronize_rng_states
from runtime.sampler import BatchSamplerShard, IterableDatasetShard, SeedableRandomSampler
from runtime.shard import Layout, remainder
from runtime.state import GradientState, PartialState

__all__ = [
    "BatchSamplerShard",
    "DataLoaderShard",
    "IterableDatasetShard",
    "SeedableRandomSampler",
    "prepare_data_loader",
]

_NOTHING = object()
UNKNOWN = -1  # a remainder that cannot be told

# What a loader takes over from the script's own, as torch.utils.data.DataLoader names it.
_COPIED = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator"),
    *("multiprocessing_context", "prefetch_factor", "persistent_workers", "pin_memory_device"),
    "in_order",
)


class DataLoaderShard(DataLoader[Any]):
    """A data loader that gives this process its own batches, on its device.

    While it is iterated it is `GradientState`'s active data loader, and tells when its last batch
    has been given; also after a `break`, when an outer one is active again.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        device: torch.device | None = None,
        rng_types: tuple[str, ...] = (),
        synchronized_generator: torch.Generator | None = None,
        layout: Layout,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> None:
        """Make a data loader.

        Args:
            dataset: the script's, or one rank's shard of it.
            device: where batches go; None leaves them.
            rng_types: random generators that all processes set alike at each new iteration.
            synchronized_generator: the one that `generator` among them means.
            layout: how samples are dealt.
            non_blocking: copy to the device without waiting; needs pinned memory.
            **kwargs: for torch's DataLoader.
        """
        super().__init__(dataset, **kwargs)
        self.device = device
        self.rng_types = rng_types
        self.synchronized_generator = synchronized_generator
        self.layout = layout
        self.non_blocking = non_blocking
        self.iteration = 0  # epochs begun and ended here
        self.end_of_dataloader = False
        self.remainder = UNKNOWN
        self.gradient_state = GradientState()

    @property
    def total_batch_size(self) -> int:
        """Samples of all processes in one step."""
        return self.layout.global_batch

    @property
    def total_dataset_length(self) -> int:
        """Samples of the whole dataset."""
        dataset: Any = self.dataset
        inner = dataset.dataset if isinstance(dataset, IterableDatasetShard) else dataset
        return len(inner)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own iterator class
        synchronize_rng_states(self.rng_types, self.synchronized_generator)
        self._begin()
        try:
            yield from self._batches()
            self.iteration += 1
        finally:  # also when the loop was left early
            self.gradient_state._remove_dataloader(self)  # noqa: SLF001  # its counterpart

    def _batches(self) -> Iterator[Any]:
        """One batch ahead, so that the last one is known as such when it is given."""
        batches: Iterator[Any] = super().__iter__()
        current = next(batches, _NOTHING)
        if current is _NOTHING:
            return
        for following in batches:
            yield self._placed(current)
            current = following
        self._reach_end()
        yield self._placed(current)

    def _placed(self, batch: Any) -> Any:
        if self.device is None:
            return batch
        return send_to_device(batch, self.device, self.non_blocking)

    def _begin(self) -> None:
        self.end_of_dataloader = False
        self.remainder = UNKNOWN
        self.set_epoch(self.iteration)
        self.gradient_state._add_dataloader(self)  # noqa: SLF001  # Accelerate's name

    def _reach_end(self) -> None:
        self.end_of_dataloader = True
        n = self._samples()
        self.remainder = UNKNOWN if n is None else remainder(n, self.layout)

    def _samples(self) -> int | None:
        """Samples of this epoch over all processes: what the sampler gives, not the dataset's."""
        if isinstance(self.dataset, IterableDatasetShard):
            return self.dataset.seen or None
        batch_sampler = _batch_sampler(self)
        if isinstance(batch_sampler, BatchSamplerShard):
            return batch_sampler.seen
        sampler: Any = getattr(batch_sampler, "sampler", None)
        return len(sampler) if hasattr(sampler, "__len__") else None

    def set_epoch(self, epoch: int) -> None:
        """Tell the sampler and the dataset which epoch comes next."""
        self.iteration = epoch
        batches: Any = _batch_sampler(self)
        chain: list[Any] = [batches, self.dataset]
        chain += [getattr(batches, name, None) for name in ("sampler", "batch_sampler")]
        for link in chain:
            if hasattr(link, "set_epoch"):
                link.set_epoch(epoch)


def prepare_data_loader(
    dataloader: DataLoader[Any],
    device: torch.device | None = None,
    num_processes: int | None = None,
    process_index: int | None = None,
    split_batches: bool = False,
    put_on_device: bool = False,
    rng_types: tuple[str, ...] = (GENERATOR,),
    even_batches: bool = True,
    use_seedable_sampler: bool = False,
    data_seed: int | None = None,
    non_blocking: bool = False,
) -> DataLoaderShard:
    """Make this process' data loader out of the script's.

    Args:
        dataloader: the same on all processes.
        device: of this process.
        num_processes: of the world; by default all.
        process_index: this rank.
        split_batches: the script's batch size is that of all processes together.
        put_on_device: whether batches go to the device.
        rng_types: random generators that are set alike at each new iteration.
        even_batches: wrap around at the end, so that all processes have as many batches.
        use_seedable_sampler: draw the order from the seed and the epoch alone.
        data_seed: that seed; by default rank 0's torch seed.
        non_blocking: copy to the device without waiting.

    Raises:
        ValueError: batches cannot be split evenly.
    """
    state = PartialState()
    size = state.num_processes if num_processes is None else num_processes
    rank = state.process_index if process_index is None else process_index
    sampler = get_sampler(dataloader)
    if use_seedable_sampler and isinstance(sampler, RandomSampler):
        sampler = _set_sampler(dataloader, _seedable(sampler, data_seed))
    layout = _layout(dataloader, size, rank, split=split_batches, even=even_batches)
    parts, generator = _shard(dataloader, sampler, layout)
    kept = tuple(kind for kind in rng_types if kind != GENERATOR or generator is not None)
    copied = {name: getattr(dataloader, name) for name in _COPIED if hasattr(dataloader, name)}
    return DataLoaderShard(
        device=device if put_on_device else None,
        rng_types=kept if size > 1 else (),
        synchronized_generator=generator,
        layout=layout,
        non_blocking=non_blocking,
        **(copied | parts),
    )


def _layout(
    dataloader: DataLoader[Any], size: int, rank: int, *, split: bool, even: bool
) -> Layout:
    batch_sampler: Any = _batch_sampler(dataloader)
    batch_size = dataloader.batch_size or getattr(batch_sampler, "batch_size", None)
    if split and batch_size is None:
        sentence = "split_batches needs a batch_size on the data loader or its batch sampler"
        raise ValueError(sentence)
    drop_last = dataloader.drop_last or getattr(batch_sampler, "drop_last", False)
    return Layout(
        batch_size=batch_size or 1,
        world_size=size,
        rank=rank,
        split=split,
        even=even,
        drop_last=drop_last,
    )


def _batch_sampler(dataloader: DataLoader[Any]) -> Any:
    """What gives batches of indices: a batch sampler may also stand in the sampler's place."""
    is_batches = isinstance(dataloader.sampler, BatchSampler)
    return dataloader.sampler if is_batches else dataloader.batch_sampler


def get_sampler(dataloader: DataLoader[Any]) -> Any:
    """The sampler whose order a data loader follows; None for an iterable dataset."""
    return getattr(_batch_sampler(dataloader), "sampler", None)


def _set_sampler(dataloader: DataLoader[Any], sampler: Any) -> Any:
    _batch_sampler(dataloader).sampler = sampler
    return sampler


def _seedable(sampler: RandomSampler, data_seed: int | None) -> SeedableRandomSampler:
    """The same sampler with a seed that all processes agree on, even if theirs differ."""
    seed = torch.initial_seed() if data_seed is None else data_seed
    return SeedableRandomSampler(
        sampler.data_source,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,  # noqa: SLF001  # torch keeps it nowhere else
        generator=sampler.generator,
        data_seed=broadcast_object_list([seed])[0],
    )


def _shard(
    dataloader: DataLoader[Any], sampler: Any, layout: Layout
) -> tuple[dict[str, Any], torch.Generator | None]:
    """What the new loader reads, and the generator that must be in step for it."""
    dataset, batch_sampler = dataloader.dataset, _batch_sampler(dataloader)
    if isinstance(dataset, IterableDataset):
        shard = dataset if layout.world_size == 1 else IterableDatasetShard(dataset, layout)
        generator = getattr(dataset, "generator", None)
        own = layout.own_batch if dataloader.batch_size is not None else None
        parts = {"dataset": shard, "batch_size": own, "drop_last": dataloader.drop_last}
        return parts, generator if isinstance(generator, torch.Generator) else None
    generator = _generator(sampler, layout.world_size)
    read: Any = dataloader.sampler if batch_sampler is None else batch_sampler
    if layout.world_size > 1:
        read = _dealt(batch_sampler, layout)
    if dataloader.batch_sampler is None:  # the dataset is asked for whole batches at once
        return {"dataset": dataset, "sampler": read, "batch_size": None}, generator
    return {"dataset": dataset, "batch_sampler": read}, generator


def _dealt(batch_sampler: Any, layout: Layout) -> BatchSamplerShard:
    if batch_sampler is None:
        sentence = (
            f"a data loader with batch_size=None needs a BatchSampler as its sampler, so that its "
            f"batches can be dealt to {layout.world_size} processes"
        )
        raise ValueError(sentence)
    return BatchSamplerShard(
        batch_sampler,
        num_processes=layout.world_size,
        process_index=layout.rank,
        split_batches=layout.split,
        even_batches=layout.even,
    )


def _generator(sampler: Any, world_size: int) -> torch.Generator | None:
    """The sampler's own generator; a random sampler without one gets one, to be kept in step."""
    if isinstance(sampler, SeedableRandomSampler) or not hasattr(sampler, "generator"):
        return None
    if sampler.generator is None and world_size > 1:
        sampler.generator = torch.Generator()
        # Drawn from torch's default generator, as Accelerate 1.15 does: one seed, one order.
        seed = int(torch.empty((), dtype=torch.int64).random_().item())
        sampler.generator.manual_seed(seed)
    generator: torch.Generator | None = sampler.generator
    return generator
