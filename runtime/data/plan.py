"""Decide how a data loader is read by all processes together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from runtime.config.enums import RNGType
from runtime.config.plugins import DataLoaderConfiguration
from runtime.data.choosing import batch_sampler_of, followed_sampler, synchronized_generator
from runtime.data.rng import GENERATOR, check_rng_types


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderPlan:
    """How all processes together read a script's data loader.

    Attributes:
        world_size: the number of processes, >= 1.
        rank: the rank of this process, in [0, world_size).
        is_dispatched: whether rank 0 reads the batches for all processes.
        split_batches: whether each batch is divided among the processes; otherwise each process
            reads batches of the script's batch size.
        even_batches: whether the last global batch is filled by wrapping around.
        device: the device that batches are moved to; None leaves them.
        non_blocking: whether batches are copied to the device without waiting.
        sampler: the sampler that determines the order; None for an iterable dataset.
        generator: the generator that must have the same state on all processes; None if there is
            none.
        rng_types: the random generators that are synchronized at the start of each epoch.
        slice_fn: the function with which rank 0 divides a batch; None for the default.

    Raises:
        ValueError: the rank is not in [0, world_size).
    """

    world_size: int
    rank: int
    is_dispatched: bool
    split_batches: bool
    even_batches: bool
    device: torch.device | None
    non_blocking: bool
    sampler: Any
    generator: torch.Generator | None
    rng_types: tuple[str, ...] | None
    slice_fn: Any = None

    def __post_init__(self) -> None:
        """Check the rank."""
        if not 0 <= self.rank < self.world_size:
            sentence = (
                f"process_index must be in [0, num_processes), got {self.rank} of {self.world_size}"
            )
            raise ValueError(sentence)


def plan_of(
    dataloader: DataLoader[Any],
    config: DataLoaderConfiguration,
    *,
    world_size: int,
    rank: int,
    device: torch.device | None,
    put_on_device: bool,
    rng_types: Sequence[str | RNGType] | None,
    slice_fn: Any,
) -> LoaderPlan:
    """Decide how a data loader is read. All processes must call this.

    This may replace the random sampler of the script's loader by a reproducible one, or set its
    generator.

    Args:
        dataloader: the script's data loader.
        config: how data loaders are prepared.
        world_size: the number of processes.
        rank: the rank of this process.
        device: the device of this process.
        put_on_device: whether batches are moved to the device.
        rng_types: the random generators that are synchronized at the start of each epoch.
        slice_fn: the function with which rank 0 divides a batch that it reads for all processes.

    Raises:
        ValueError: batches cannot be split evenly, or arguments contradict each other.
    """
    is_dispatched = config.dispatch_batches
    if is_dispatched is None:
        is_dispatched = put_on_device and isinstance(dataloader.dataset, IterableDataset)
    if is_dispatched and not put_on_device:
        sentence = "Using `dispatch_batches=True` requires `put_on_device=True`."
        raise ValueError(sentence)
    if config.split_batches:
        _check_split(dataloader, world_size)
    sampler = followed_sampler(
        dataloader,
        seedable=config.use_seedable_sampler,
        seed=config.data_seed,
        shuffle=config.shuffle,
    )
    # As in Accelerate, a dispatched loader uses the default generators.
    has_own = not is_dispatched
    generator = synchronized_generator(dataloader, sampler, world_size) if has_own else None
    return LoaderPlan(
        world_size=world_size,
        rank=rank,
        is_dispatched=is_dispatched,
        split_batches=config.split_batches,
        even_batches=config.even_batches,
        device=device if put_on_device else None,
        non_blocking=config.non_blocking,
        sampler=sampler,
        generator=generator,
        rng_types=_synchronized(rng_types, generator),
        slice_fn=slice_fn,
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


def _synchronized(
    rng_types: Sequence[str | RNGType] | None, generator: torch.Generator | None
) -> tuple[str, ...] | None:
    """Return the names of the types, without `generator` if there is no generator."""
    if rng_types is None:
        return None
    types = check_rng_types(rng_types)
    return tuple(kind for kind in types if kind != GENERATOR or generator is not None)
