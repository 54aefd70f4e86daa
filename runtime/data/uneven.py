"""Training with a different number of batches in each process."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.distributed.algorithms.join import Join

from runtime.collectives.objects import each_object
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.world.gradient_state import GradientState

_SCRIPT = 5  # stacklevel of the script, above two generator-based context managers


@contextlib.contextmanager
def join_uneven_inputs(
    joinables: list[Any],
    dataloaders: Sequence[Any],
    *,
    state: Any,
    usual: bool,
    even_batches: bool | None,
) -> Iterator[None]:
    """Let processes with more batches than others continue; see `Accelerator.join_uneven_inputs`.

    Args:
        joinables: the models, which are wrapped in DistributedDataParallel.
        dataloaders: the prepared data loaders.
        state: the AcceleratorState of this process.
        usual: the `even_batches` that the data loaders were prepared with.
        even_batches: the value of `even_batches` inside the context; None changes nothing.
    """
    if not state.use_distributed:
        yield
        return
    if state.divides_models:
        sentence = (
            "Joining uneven inputs is only supported for multi-GPU and multi-CPU training with "
            "DistributedDataParallel; it has no effect on models that are sharded or divided."
        )
        warnings.warn(sentence, stacklevel=_SCRIPT)
        yield
        return
    sharded = [one for one in dataloaders if not isinstance(one, DataLoaderDispatcher)]
    if even_batches is not None and len(sharded) < len(dataloaders):
        sentence = (
            "Overriding even_batches is only supported for map-style datasets, yet some "
            "dataloaders given were iterable, or are read by rank 0 for all"
        )
        warnings.warn(sentence, stacklevel=_SCRIPT)
    even = usual if even_batches is None else even_batches
    with (
        _even_batches(sharded if even_batches is not None else (), even),
        contextlib.nullcontext() if even else _apart(),
        Join(joinables, enable=not even, throw_on_early_termination=False),
    ):
        yield


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Let no checkpoint be taken inside the context, in which ranks differ in their steps.

    At its end all ranks have the step count of the rank with the most steps; if the body fails,
    the others may not get there.
    """
    state, mark = GradientState(), object()
    state.part(mark)
    try:
        yield
        state.steps.completed = max(each_object(state.steps.completed))
    finally:
        state.apart.discard(mark)


@contextlib.contextmanager
def _even_batches(dataloaders: Iterable[Any], even_batches: bool) -> Iterator[None]:
    """Set `even_batches` of the loaders' batch samplers inside the context."""
    found = (loader.batch_sampler for loader in dataloaders)
    samplers = [sampler for sampler in found if hasattr(sampler, "even_batches")]
    before = [sampler.even_batches for sampler in samplers]
    for sampler in samplers:
        sampler.even_batches = even_batches
    try:
        yield
    finally:
        for sampler, was_even in zip(samplers, before, strict=True):
            sampler.even_batches = was_even
