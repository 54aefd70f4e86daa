"""Training on where some processes have run out of batches."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from torch.distributed.algorithms.join import Join

from runtime.config.enums import DistributedType
from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.world.roles import StateView


class Uneven(StateView):
    """Mixed into the Accelerator."""

    even_batches: bool
    _dataloaders: list[Any]

    @contextlib.contextmanager
    def join_uneven_inputs(
        self, joinables: list[Any], even_batches: bool | None = None
    ) -> Iterator[None]:
        """Within, processes may have different numbers of batches: none waits for a missing one.

        Sharded models cannot be joined, for every batch needs all processes: that is a warning.

        Args:
            joinables: prepared models, which are DistributedDataParallel in a world of several.
            even_batches: for the prepared data loaders, as long as this lasts.
        """
        if not self.use_distributed:
            yield
            return
        if self.distributed_type == DistributedType.FSDP:
            sentence = (
                "Joining uneven inputs is only supported for multi-GPU and multi-CPU training with "
                "DistributedDataParallel; it has no effect on models that are sharded."
            )
            warnings.warn(sentence, stacklevel=3)
            yield
            return
        dealt = [one for one in self._dataloaders if not isinstance(one, DataLoaderDispatcher)]
        if even_batches is not None and len(dealt) < len(self._dataloaders):
            sentence = (
                "Overriding even_batches is only supported for map-style datasets, yet some "
                "dataloaders given were iterable, or are read by rank 0 for all"
            )
            warnings.warn(sentence, stacklevel=3)
        even = self.even_batches if even_batches is None else even_batches
        with contextlib.ExitStack() as stack:
            for loader in dealt if even_batches is not None else []:
                stack.enter_context(_even_batches(loader, even))
            with Join(joinables, enable=not even, throw_on_early_termination=False):
                yield


@contextlib.contextmanager
def _even_batches(loader: Any, even_batches: bool) -> Iterator[None]:
    shard = loader.batch_sampler if hasattr(loader.batch_sampler, "even_batches") else None
    if shard is None:
        yield
        return
    before, shard.even_batches = shard.even_batches, even_batches
    try:
        yield
    finally:
        shard.even_batches = before
