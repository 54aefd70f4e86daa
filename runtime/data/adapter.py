"""A torch data loader that records its position in an epoch and can resume from it.

The position counts the samples of all processes, so a checkpoint can be resumed with a different
number of processes.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from runtime.data.choosing import batch_sampler_of, get_sampler
from runtime.data.fetch import InProcess, by_batch
from runtime.data.forking import answering
from runtime.data.generators import links, restore, states
from runtime.data.iterable import IterableDatasetShard, marked
from runtime.data.position import Position
from runtime.data.seekable import Indices
from runtime.data.workers import Given, Progress, must_be_as_before
from runtime.world.gradient_state import GradientState


class Nothing(Enum):
    """What stands for a batch where there is none; copies and pickles are the same object."""

    NOTHING = "nothing"


NOTHING = Nothing.NOTHING


class DataLoaderAdapter(DataLoader[Any]):
    """A torch data loader that records its position in an epoch and can resume from it.

    It calls torch's DataLoader by name, not by `super()`, which is torchdata's in `data.stateful`.
    """

    def __init__(
        self,
        dataset: Any,
        use_stateful_dataloader: bool = False,
        batch_sampler: Any = None,
        **kwargs: Any,
    ) -> None:
        """Create a data loader.

        Args:
            dataset: the dataset, or this rank's shard of an iterable dataset.
            use_stateful_dataloader: whether `prepare` has made an instance of a class of
                `data.stateful`; every prepared loader has a state.
            batch_sampler: the batch sampler; None if the other arguments define the batches.
            **kwargs: the other arguments of torch's DataLoader.
        """
        DataLoader.__init__(self, dataset, batch_sampler=batch_sampler, **kwargs)
        self.use_stateful_dataloader = use_stateful_dataloader
        self.gradient_state = GradientState()
        self.skip_batches = 0
        self.iteration = 0
        self._indices = Indices(super()._index_sampler)
        self._pass = Position()  # the position at which the current pass began
        self._samples = 0  # samples of all processes read so far in this epoch
        self._progress = Progress()  # how far an iterable dataset has been read
        self._resumed: Position | None = None  # the loaded position at which the next pass begins
        self._on_resume: Callable[[], None] | None = None
        self._head_of_pass: Any = NOTHING  # the first batch of the next pass, if it was saved
        self._following: Any = NOTHING  # the batch that was read ahead of the script
        if self.persistent_workers and isinstance(dataset, IterableDatasetShard):
            dataset.share_epoch()
        # `skip_first_batches` links two loaders: the new one has its `_origin`; the origin has in
        # `_part` the loader that was iterated last in its place.
        self._origin: DataLoaderAdapter | None = None
        self._part: weakref.ref[DataLoaderAdapter] | None = None

    def __getattr__(self, name: str) -> Any:
        """Return this loader as `base_dataloader`, which is a separate object in Accelerate."""
        if name == "base_dataloader":
            return self
        sentence = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(sentence)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without a weak reference, and without what belongs to a pass."""
        return self.__dict__ | {"_part": None, "_following": NOTHING}

    @property
    def _index_sampler(self) -> Any:
        if isinstance(self.dataset, IterableDataset):
            return super()._index_sampler
        return self._indices

    def _get_iterator(self) -> Any:
        with by_batch(self) as is_by_batch, marked(self), answering(self):
            self._indices.as_tensors = is_by_batch and not self.num_workers
            return DataLoader._get_iterator(self) if self.num_workers else InProcess(self)  # noqa: SLF001  # of the base class

    def get_sampler(self) -> Any:
        """Return the sampler that determines the order; None for an iterable dataset."""
        return get_sampler(self)

    def set_sampler(self, sampler: Any) -> None:
        """Replace the sampler that determines the order."""
        batches = batch_sampler_of(self)
        batches.sampler = sampler
        if hasattr(batches, "batch_sampler"):
            batches.batch_sampler.sampler = sampler
        self._indices = Indices(super()._index_sampler)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, also on the samplers and the dataset."""
        self.iteration = epoch
        for link in links(self):
            if hasattr(link, "set_epoch"):
                link.set_epoch(epoch)

    @property
    def total_batch_size(self) -> int:
        """The number of samples of all processes in one step."""
        return self._unit

    @property
    def _unit(self) -> int:
        """The number of samples of all processes for each batch that torch's loader reads."""
        if isinstance(self.dataset, IterableDatasetShard):
            return self.dataset.layout.global_batch
        return self._indices.unit

    @property
    def total_dataset_length(self) -> int:
        """The number of samples of the whole dataset."""
        dataset: Any = self.dataset
        inner = dataset.dataset if isinstance(dataset, IterableDatasetShard) else dataset
        return int(getattr(inner, "total_length", None) or len(inner))

    @property
    def drops_last(self) -> bool:
        """Whether an incomplete last batch of the script's loader is dropped."""
        return bool(getattr(self, "_drop_last", self.drop_last))

    @property
    def can_begin_anywhere(self) -> bool:
        """Whether a pass can begin behind any sample, and not only behind whole batches."""
        if isinstance(self.dataset, IterableDatasetShard):
            return not self.num_workers
        shard = self._indices.shard
        return shard is not None and type(shard.batch_sampler) is BatchSampler

    def state_dict(self) -> dict[str, Any]:
        """Return the position of this loader after the last batch that it yielded.

        The number of processes may differ when the state is loaded, as long as the total number of
        samples per step is the same.
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
        """Return the position at the beginning of an epoch; persistent workers keep their seed."""
        reader = self if self._origin is None else self._origin  # the loader that reads that epoch
        workers = reader._pass.workers if reader._draws_once else None  # noqa: SLF001  # same class
        return Position(
            epoch=epoch,
            generators=states(self),
            is_seeded=workers is not None,
            workers=workers,
            workers_live=workers is not None,
        )

    def place(self, ahead: int = 0) -> dict[str, Any]:
        """Return the position at which a restarted script goes on.

        It differs from `state_dict` if the script has left the last pass by a `break`: the next
        pass then begins an epoch.

        Args:
            ahead: the number of batches that the script holds and has not used yet.
        """
        if self._resumed is not None:
            return self._resumed.state_dict()
        part = self._part() if self._part is not None else None
        active = self.gradient_state.dataloader_references
        reader = next((one for one in (self, part) if any(one is two for two in active[1:])), None)
        if reader is None:
            return self._beginning_of(self.iteration).state_dict()
        position = reader._now()  # noqa: SLF001  # same class
        held = ahead * reader.total_batch_size
        return replace(position, samples=position.samples - held).state_dict()

    @property
    def first_batch(self) -> int:
        """The number of the batch with which the next pass begins: 0, or more in a resumed pass.

        For scripts that count: `for i, batch in enumerate(loader, loader.first_batch)`.
        """
        taken = self.origin._resumed or self._resumed  # noqa: SLF001  # same class
        return 0 if taken is None else taken.samples // self.total_batch_size

    def forget_position(self) -> None:
        """Begin the next pass at the beginning of an epoch, although a position was loaded."""
        self._resumed = self._on_resume = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next pass at a saved position.

        Args:
            state_dict: a return value of `state_dict`.

        Raises:
            ValueError: the state is not that of a data loader, or the dataset was divided among a
                different number of workers.
        """
        resumed = Position.of(state_dict)
        before = Progress.of(resumed.dataset).workers
        if before:
            must_be_as_before(before, self.num_workers)
        self._resumed, self._part = resumed, None
        self._iterator, self._pass = None, Position()  # old workers have another seed
        self.set_epoch(resumed.epoch)
        # Within an epoch, `_begin` restores the generators: other code may draw from them before.
        if not resumed.samples:
            restore(self, resumed.generators)

    @property
    def is_within_epoch(self) -> bool:
        """Whether the next pass begins at a loaded position within an epoch."""
        return self._resumed is not None and self._resumed.samples > 0

    def on_resume(self, restore: Callable[[], None], head: Any = NOTHING) -> None:
        """Call a function once, in the next pass, when its first batch has been read.

        Args:
            restore: the function; it restores the random generators, which the code between the
                load and this pass, or the reading of the first batch, may have advanced.
            head: the first batch of that pass, if it was saved; it is not read again.
        """
        self._on_resume, self._head_of_pass = restore, head

    @property
    def can_go_back(self) -> bool:
        """Whether a position before the last batch that was given is known."""
        return False

    def ahead(self) -> Any:
        """Return the batch that was read ahead of the script; `NOTHING` if it can be read again.

        Only the batches that this process itself reads from a dataset with indices may depend on
        random numbers that the script's own draws follow.
        """
        return NOTHING

    def _resume(self) -> None:
        if self._on_resume is not None:
            restore, self._on_resume = self._on_resume, None
            restore()

    def _end_epoch(self) -> None:
        """Go on to the next epoch after all batches have been consumed."""
        self.iteration += 1
        self._samples = 0
        if self._origin is not None:
            self._origin.iteration = self.iteration

    @property
    def origin(self) -> "DataLoaderAdapter":
        """The loader whose epoch this loader reads: itself, unless it skips first batches."""
        return self if self._origin is None else self._origin

    def behind(self, origin: "DataLoaderAdapter") -> None:
        """Make this loader read the rest of another loader's epoch.

        An epoch of this loader counts as an epoch of the other loader.

        Args:
            origin: the other loader, which is the same except for the skipped batches.
        """
        inner = origin._origin  # noqa: SLF001  # same class
        self._origin = origin if inner is None else inner

    def _begin(self) -> Position:
        """Begin a pass; return the position that it resumes, or the beginning of an epoch."""
        if self._origin is not None and self._origin._on_resume is not None:  # noqa: SLF001  # same class
            found = self._origin._handed_over()  # noqa: SLF001
            self._resumed, self._on_resume, self._head_of_pass = found
        resumed, self._resumed, self._part = self._resumed or Position(), None, None
        if self._origin is not None:
            self._origin._part = weakref.ref(self)  # noqa: SLF001  # same class
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

    def _handed_over(self) -> tuple[Position | None, Callable[[], None] | None, Any]:
        """Return what the loop has loaded, for the loader that reads the rest of this epoch."""
        found = self._resumed, self._on_resume, self._head_of_pass
        self._resumed, self._on_resume, self._head_of_pass = None, None, NOTHING
        return found

    def _forget_workers(self) -> None:
        """Drop the persistent workers of an iterable dataset: they would not see a new position."""
        if isinstance(self.dataset, IterableDatasetShard):
            self._iterator = None

    def _started(self) -> Iterator[Any]:
        """Return torch's iterator, beginning at the position of this pass."""
        resumed = self._begin()
        self._seek(resumed)
        own, seeds = self.generator, _copy_of(self.generator)
        lives = self._workers_live(resumed)
        if lives or (resumed.is_seeded and (own is None or resumed.generators is None)):
            # The workers' seed was drawn at the beginning of this or the first epoch: torch must
            # not draw it from the loader's generator again.
            drawn_from = resumed.workers if self._pass.workers is None else self._pass.workers
            if drawn_from is not None:
                seeds.set_state(drawn_from)
            self.generator = seeds
        self._pass = replace(self._pass, workers=seeds.get_state(), workers_live=lives)
        if lives:  # advance, so that new workers do not repeat the first epoch's random numbers
            torch.empty(self.iteration, dtype=torch.int64).random_(generator=seeds)
        try:
            batches = DataLoader.__iter__(self)
        finally:
            self.generator = own
        return self._from_start(batches, is_resumed=resumed.dataset is not None)

    @property
    def _draws_once(self) -> bool:
        """Whether the workers are persistent, so that their seed is drawn only once."""
        return self.persistent_workers and self.num_workers > 0

    def _workers_live(self, resumed: Position) -> bool:
        """Whether the seed of this pass' workers was drawn in an earlier pass."""
        return self._draws_once and (self._pass.workers is not None or resumed.workers_live)

    def _pass_by(self) -> None:
        """Draw the random numbers that reading would draw.

        A rank that does not read then has its generator in the same state as rank 0.
        """
        resumed = self._begin()
        lives, workers = self._workers_live(resumed), self._pass.workers
        if self._draws_once and workers is None:
            workers = _copy_of(self.generator).get_state()
        self._pass = replace(self._pass, workers=workers, workers_live=lives)
        if not lives and not resumed.is_seeded:
            torch.empty((), dtype=torch.int64).random_(generator=self.generator)

    def _from_start(self, batches: Iterator[Any], *, is_resumed: bool) -> Iterator[Any]:
        """Skip the batches before the start of this pass if the dataset could not seek to it.

        Raises:
            ValueError: the dataset was read as one stream and is now divided among workers.
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
        """Record a batch as yielded; return its content for the script."""
        return self._progress.note(batch, self.num_workers)

    def _seek(self, resumed: Position) -> None:
        """Set the position at which the samplers or the dataset begin."""
        has_head = self._head_of_pass is not NOTHING
        self._indices.start = self._samples + has_head * self._unit
        self._indices.order_state = resumed.order
        self._indices.drawn_from = resumed.drawn_from
        self._progress = Progress.of(resumed.dataset)
        if isinstance(self.dataset, IterableDatasetShard):
            self.dataset.seek(self._samples, Progress.of(resumed.dataset))


def _copy_of(generator: torch.Generator | None) -> torch.Generator:
    """Return a copy of a generator; None stands for torch's default generator."""
    copy = torch.Generator()
    copy.set_state(torch.get_rng_state() if generator is None else generator.get_state())
    return copy
