"""A data loader that knows how far it is, and can begin there again.

The position is in samples of all processes: it holds for as many processes as before, and for
others.
"""

import weakref
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from runtime.data.fetch import InProcess, by_batch
from runtime.data.forking import answering
from runtime.data.generators import links, restore, states
from runtime.data.iterable import IterableDatasetShard, marked
from runtime.data.seekable import Indices
from runtime.data.workers import Given, Progress, must_be_as_before
from runtime.world.gradient_state import GradientState


class DataLoaderAdapter(DataLoader[Any]):
    """A torch data loader that knows its position, and can begin there again."""

    def __init__(
        self,
        dataset: Any,
        use_stateful_dataloader: bool = False,
        batch_sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        """Args: use_stateful_dataloader: each is; the rest is for torch's DataLoader."""
        super().__init__(dataset, batch_sampler=batch_sampler, **kwargs)
        self.use_stateful_dataloader = use_stateful_dataloader
        self.gradient_state = GradientState()
        self.skip_batches = 0
        self.iteration = 0
        self._indices = Indices(super()._index_sampler)
        self._position = 0  # samples of all processes that were given in this epoch
        self._progress = Progress()  # of a dataset that can only be gone through
        self._base_state: torch.Tensor | None = None  # what the workers' seed was drawn from
        self._has_drawn = False  # that seed was drawn in an earlier pass: these workers live on
        self._begun: dict[str, Any] | None = None  # the generators' states when this pass began
        self._resumed: dict[str, Any] | None = None
        self._moved = False  # the last pass over a stream began elsewhere than at its beginning
        if self.persistent_workers and isinstance(dataset, IterableDatasetShard):
            dataset.share_epoch()
        self._origin: DataLoaderAdapter | None = None  # of which this gives what is behind a start
        self._part: weakref.ref[DataLoaderAdapter] | None = None  # which was iterated last instead

    def __getattr__(self, name: str) -> Any:
        """`base_dataloader` is this; in Accelerate it is another object."""
        if name == "base_dataloader":
            return self
        sentence = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(sentence)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the part that was iterated last, which is there for this process only."""
        return self.__dict__ | {"_part": None}

    @property
    def _index_sampler(self) -> Any:
        if isinstance(self.dataset, IterableDataset):
            return super()._index_sampler
        return self._indices

    def _get_iterator(self) -> Any:
        with by_batch(self) as is_by_batch, marked(self), answering(self):
            self._indices.as_tensors = is_by_batch and not self.num_workers
            return super()._get_iterator() if self.num_workers else InProcess(self)

    def get_sampler(self) -> Any:
        """The sampler whose order is followed; None for an iterable dataset."""
        return get_sampler(self)

    def set_sampler(self, sampler: Any) -> None:
        """Follow the order of another sampler."""
        batches = batch_sampler_of(self)
        batches.sampler = sampler
        if hasattr(batches, "batch_sampler"):
            batches.batch_sampler.sampler = sampler
        self._indices = Indices(super()._index_sampler)

    def set_epoch(self, epoch: int) -> None:
        """Tell the samplers and the dataset which epoch comes next."""
        self.iteration = epoch
        for link in links(self):
            if hasattr(link, "set_epoch"):
                link.set_epoch(epoch)

    @property
    def total_batch_size(self) -> int:
        """Samples of all processes in one step."""
        return self._unit

    @property
    def _unit(self) -> int:
        """Samples of all processes for each batch that torch's loader reads."""
        if isinstance(self.dataset, IterableDatasetShard):
            return self.dataset.layout.global_batch
        return self._indices.unit

    @property
    def total_dataset_length(self) -> int:
        """Samples of the whole dataset."""
        dataset: Any = self.dataset
        inner = dataset.dataset if isinstance(dataset, IterableDatasetShard) else dataset
        return int(getattr(inner, "total_length", None) or len(inner))

    def state_dict(self) -> dict[str, Any]:
        """Where this loader is: behind the batch that it gave last.

        It holds for any number of processes, if the samples of a step stay as many.
        """
        part = self._part() if self._part is not None else None
        if part is not None:
            return part.state_dict()
        if self._resumed is not None:
            return self._resumed
        is_over = self._position > 0 and getattr(self, "end_of_dataloader", False)
        if is_over or not self._position:
            epoch = self.iteration + is_over
            state = {"epoch": epoch, "position": 0, "generators": states(self)}
            reader = self if self._origin is None else self._origin  # of the next pass
            if reader._draws_once and reader._base_state is not None:  # noqa: SLF001  # of its kind
                state |= {"workers": reader._base_state, "workers_live": True}  # noqa: SLF001
            return state
        shard = self._indices.shard
        return {
            "epoch": self.iteration,
            "position": self._position,
            "generators": self._begun,
            "order": None if shard is None else shard.order_state,
            "drawn_from": self._indices.drawn_from,
            "workers": self._base_state,
            "workers_live": self._has_drawn,
            "dataset": self._progress.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have the next pass begin where another loader was.

        Raises:
            ValueError: the dataset was divided among another number of workers.
        """
        before = Progress.of(state_dict.get("dataset")).workers
        if before:
            must_be_as_before(before, self.num_workers)
        self._resumed, self._part = state_dict, None
        self._iterator, self._base_state = None, None  # workers that live are of another run
        self.set_epoch(state_dict["epoch"])
        if not state_dict["position"]:  # else when the pass begins: another may draw before
            restore(self, state_dict.get("generators"))

    def _end_epoch(self) -> None:
        """All batches were given, and taken."""
        self.iteration += 1
        self._position = 0
        if self._origin is not None:
            self._origin.iteration = self.iteration

    def behind(self, origin: "DataLoaderAdapter") -> None:
        """Be the part of another loader behind its first batches: an epoch here is one there."""
        inner = origin._origin  # noqa: SLF001  # of its kind
        self._origin = origin if inner is None else inner

    def _begin_at(self) -> dict[str, Any]:
        """Set the position where this pass begins; the state that it begins from, if any."""
        resumed, self._resumed, self._part = self._resumed or {}, None, None
        if self._origin is not None:
            self._origin._part = weakref.ref(self)  # noqa: SLF001  # of its kind
        skipped = self.skip_batches * self.total_batch_size + self._indices.skipped
        self._position = resumed.get("position") or skipped
        if resumed.get("position"):
            restore(self, resumed.get("generators"))
        self._begun = states(self)
        return resumed

    def _started(self) -> Iterator[Any]:
        """Torch's own iterator, from where this pass is to begin."""
        resumed = self._begin_at()
        self._seek(resumed)
        own, seeds = self.generator, _copy_of(self.generator)
        self._has_drawn = self._workers_live(resumed)
        is_begun = "workers" in resumed and (own is None or "generators" not in resumed)
        if self._has_drawn or is_begun:
            # The seed was drawn when the epoch began, or the first one, and must not be again.
            drawn_from = resumed.get("workers") if self._base_state is None else self._base_state
            if drawn_from is not None:
                seeds.set_state(drawn_from)
            self.generator = seeds
        self._base_state = seeds.get_state()
        if self._has_drawn:  # workers that begin anew must not repeat the first epoch's numbers
            torch.empty(self.iteration, dtype=torch.int64).random_(generator=seeds)
        try:
            batches = super().__iter__()
        finally:
            self.generator = own
        return self._from_start(batches, is_resumed="dataset" in resumed)

    @property
    def _draws_once(self) -> bool:
        """Whether workers live through all passes, and so does the seed that they have."""
        return self.persistent_workers and self.num_workers > 0

    def _workers_live(self, resumed: dict[str, Any]) -> bool:
        """Whether the workers of this pass have their seed from an earlier one."""
        is_known = self._base_state is not None or bool(resumed.get("workers_live"))
        return self._draws_once and is_known

    def _pass_by(self) -> None:
        """Do as if this process had read, too: its random generator stays in step."""
        resumed = self._begin_at()
        self._has_drawn = self._workers_live(resumed)
        if self._draws_once and self._base_state is None:
            self._base_state = _copy_of(self.generator).get_state()
        if not self._has_drawn and "workers" not in resumed:
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)

    def _from_start(self, batches: Iterator[Any], *, is_resumed: bool) -> Iterator[Any]:
        """Torch's batches from where the pass begins, also if it could not be told to begin there.

        Raises:
            ValueError: a dataset that was one stream is now divided among workers.
        """
        start = self._position // self._unit
        if not self._position or self._progress.workers or not self._is_stream:
            return batches
        if not isinstance(self.dataset, IterableDatasetShard):
            return islice(batches, start, None)
        first = next(batches, None)
        if not isinstance(first, Given) or first.worker is None:
            return batches if first is None else chain([first], batches)
        if is_resumed:
            must_be_as_before(0, self.num_workers)
        for batch in chain([first], islice(batches, start - 1)):
            self._noted(batch)
        return batches

    @property
    def _is_stream(self) -> bool:
        return isinstance(self.dataset, IterableDataset)

    def _noted(self, batch: Any) -> Any:
        """Count a batch as given; what the script is to see of it."""
        return self._progress.note(batch, self.num_workers)

    def _seek(self, resumed: dict[str, Any]) -> None:
        self._indices.start = self._position
        self._indices.order_state = resumed.get("order")
        self._indices.drawn_from = resumed.get("drawn_from")
        self._progress = Progress.of(resumed.get("dataset"))
        if not isinstance(self.dataset, IterableDatasetShard):
            return
        self.dataset.seek(self._position, Progress.of(resumed.get("dataset")))
        before, self._moved = self._moved, self._position > 0
        if before or self._moved:
            self._iterator = None  # workers that live on would not hear of it


def _copy_of(generator: torch.Generator | None) -> torch.Generator:
    """One in the same state; without any, torch's default one."""
    copy = torch.Generator()
    copy.set_state(torch.get_rng_state() if generator is None else generator.get_state())
    return copy


def batch_sampler_of(dataloader: DataLoader[Any]) -> Any:
    """What gives batches of indices: a batch sampler may also stand in the sampler's place."""
    is_batches = isinstance(dataloader.sampler, BatchSampler)
    return dataloader.sampler if is_batches else dataloader.batch_sampler


def get_sampler(dataloader: DataLoader[Any]) -> Any:
    """The sampler whose order a data loader follows; None for an iterable dataset."""
    return getattr(batch_sampler_of(dataloader), "sampler", None)
