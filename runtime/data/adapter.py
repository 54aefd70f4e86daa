"""A data loader that knows how far it is, and can begin there again.

The position is in samples of all processes: it holds for as many processes as before, and for
others.
"""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from runtime.data.fetch import InProcess, by_batch
from runtime.data.forking import answering
from runtime.data.generators import links, restore, states
from runtime.data.iterable import IterableDatasetShard, marked
from runtime.data.position import Position
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
        self._pass = Position()  # where the current pass began
        self._samples = 0  # of all processes, before the position of the current pass
        self._progress = Progress()  # how far an iterable dataset was read there
        self._resumed: Position | None = None  # where the next pass begins, if not at the beginning
        if self.persistent_workers and isinstance(dataset, IterableDatasetShard):
            dataset.share_epoch()
        self._origin: DataLoaderAdapter | None = None  # whose batches this gives, without the first
        self._part: weakref.ref[DataLoaderAdapter] | None = None  # the one iterated in its place

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
        """Return the position of this loader, behind the batch that it gave last.

        It holds for any number of processes, if all of them together have as many samples a step.
        """
        part = self._part() if self._part is not None else None
        if part is not None:
            return part.state_dict()
        return (self._resumed or self._now()).state_dict()

    def _now(self) -> Position:
        is_over = self._samples > 0 and getattr(self, "end_of_dataloader", False)
        if is_over or not self._samples:
            return self._beginning_of(self.iteration + is_over)
        shard = self._indices.shard
        return replace(
            self._pass,
            epoch=self.iteration,
            samples=self._samples,
            order=None if shard is None else shard.order_state,
            drawn_from=self._indices.drawn_from,
            is_seeded=True,
            dataset=self._progress.state_dict(),
        )

    def _beginning_of(self, epoch: int) -> Position:
        """Return the beginning of the next epoch; workers that live on keep their seed."""
        reader = self if self._origin is None else self._origin  # of that epoch
        workers = reader._pass.workers if reader._draws_once else None  # noqa: SLF001  # of its kind
        return Position(
            epoch=epoch,
            generators=states(self),
            is_seeded=workers is not None,
            workers=workers,
            workers_live=workers is not None,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next pass at the position of another loader.

        Raises:
            ValueError: the state is none of a data loader, or the dataset was divided among another
                number of workers.
        """
        resumed = Position.of(state_dict)
        before = Progress.of(resumed.dataset).workers
        if before:
            must_be_as_before(before, self.num_workers)
        self._resumed, self._part = resumed, None
        self._iterator, self._pass = None, Position()  # workers that live are of another run
        self.set_epoch(resumed.epoch)
        if not resumed.samples:  # else when the pass begins: another may draw before
            restore(self, resumed.generators)

    def _end_epoch(self) -> None:
        """Go on to the next epoch: all batches were given, and taken."""
        self.iteration += 1
        self._samples = 0
        if self._origin is not None:
            self._origin.iteration = self.iteration

    def behind(self, origin: "DataLoaderAdapter") -> None:
        """Be another loader without its first batches: an epoch of this one counts as its epoch."""
        inner = origin._origin  # noqa: SLF001  # of its kind
        self._origin = origin if inner is None else inner

    def _begin(self) -> Position:
        """Begin a pass; returns the position that it resumes, or the beginning of an epoch."""
        resumed, self._resumed, self._part = self._resumed or Position(), None, None
        if self._origin is not None:
            self._origin._part = weakref.ref(self)  # noqa: SLF001  # of its kind
        skipped = self.skip_batches * self.total_batch_size + self._indices.skipped
        self._samples = resumed.samples or skipped
        if resumed.samples:
            restore(self, resumed.generators)
        if self._pass.samples or self._samples:
            self._forget_workers()
        self._pass = Position(
            samples=self._samples, generators=states(self), workers=self._pass.workers
        )
        return resumed

    def _forget_workers(self) -> None:
        """Start new workers for a stream: those that live would not hear where a pass begins."""
        if isinstance(self.dataset, IterableDatasetShard):
            self._iterator = None

    def _started(self) -> Iterator[Any]:
        """Return torch's own iterator, from where this pass is to begin."""
        resumed = self._begin()
        self._seek(resumed)
        own, seeds = self.generator, _copy_of(self.generator)
        lives = self._workers_live(resumed)
        if lives or (resumed.is_seeded and (own is None or resumed.generators is None)):
            # The seed was drawn when the epoch began, or the first one, and must not be again.
            drawn_from = resumed.workers if self._pass.workers is None else self._pass.workers
            if drawn_from is not None:
                seeds.set_state(drawn_from)
            self.generator = seeds
        self._pass = replace(self._pass, workers=seeds.get_state(), workers_live=lives)
        if lives:  # workers that begin anew must not repeat the first epoch's numbers
            torch.empty(self.iteration, dtype=torch.int64).random_(generator=seeds)
        try:
            batches = super().__iter__()
        finally:
            self.generator = own
        return self._from_start(batches, is_resumed=resumed.dataset is not None)

    @property
    def _draws_once(self) -> bool:
        """Whether workers live through all passes, and so does the seed that they have."""
        return self.persistent_workers and self.num_workers > 0

    def _workers_live(self, resumed: Position) -> bool:
        """Whether the workers of this pass have their seed from an earlier one."""
        return self._draws_once and (self._pass.workers is not None or resumed.workers_live)

    def _pass_by(self) -> None:
        """Draw as if this process had read, too, so that its random generator stays in step."""
        resumed = self._begin()
        lives, workers = self._workers_live(resumed), self._pass.workers
        if self._draws_once and workers is None:
            workers = _copy_of(self.generator).get_state()
        self._pass = replace(self._pass, workers=workers, workers_live=lives)
        if not lives and not resumed.is_seeded:
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)

    def _from_start(self, batches: Iterator[Any], *, is_resumed: bool) -> Iterator[Any]:
        """Return torch's batches from where the pass begins, if they had to begin before it.

        Raises:
            ValueError: a dataset that was one stream is now divided among workers.
        """
        start = self._samples // self._unit
        if not self._samples or self._progress.workers or not self._is_stream:
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

    def _seek(self, resumed: Position) -> None:
        """Have the samplers, or the dataset, begin where this pass does."""
        self._indices.start = self._samples
        self._indices.order_state = resumed.order
        self._indices.drawn_from = resumed.drawn_from
        self._progress = Progress.of(resumed.dataset)
        if isinstance(self.dataset, IterableDatasetShard):
            self.dataset.seek(self._samples, Progress.of(resumed.dataset))


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
