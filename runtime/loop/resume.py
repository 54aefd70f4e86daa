"""Bringing a script to the place at which its newest automatic checkpoint was taken."""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import torch

from runtime.collectives.objects import each_object
from runtime.data.adapter import NOTHING
from runtime.data.random_states import random_states, set_random_states
from runtime.loop.checkpoints import Checkpoints
from runtime.loop.loader_check import check
from runtime.loop.passes import Passes
from runtime.loop.reading import Reading
from runtime.loop.restorer import Restorer
from runtime.loop.say import say
from runtime.loop.state import LoopState
from runtime.preparation.prepared import Prepared
from runtime.world.steps import Steps


class Resume:
    """Finds where the calls of `epochs` begin, and brings the script to the checkpoint's place.

    `find`, `first`, `prepared`, `begin_epoch` and `reach` may call collectives, so all processes
    must call them.

    Attributes:
        pending: the loaded checkpoint, until the script has reached its place; None otherwise.
    """

    def __init__(self, prepared: Prepared, checkpoints: Checkpoints | None) -> None:
        """Begin with nothing found.

        Args:
            prepared: the objects that the script has prepared.
            checkpoints: the automatic checkpoints; None if there are none.
        """
        self._prepared, self._checkpoints = prepared, checkpoints
        self._found: LoopState | None = None  # the newest checkpoint when this life began
        self._place: LoopState | None = None  # the loaded one, in the epoch that it resumes
        self.pending: Pending | None = None

    def find(self) -> None:
        """Find the newest checkpoint, at the first call of `epochs`."""
        if self._checkpoints is not None:
            self._found = self._checkpoints.find()

    def forget(self) -> None:
        """Begin anew if the script tries again."""
        self.pending = self._found = None

    def first(self, call: int, total: int) -> tuple[int, LoopState | None]:
        """Return the first epoch of a call of `epochs`, and what was loaded for it; None: nothing.

        Args:
            call: the number of the call, from 0.
            total: its number of epochs.
        """
        checkpoints, found = self._checkpoints, self._found
        if checkpoints is None or found is None or call > found.call:
            return 0, None
        state = checkpoints.restorer.load(call)
        if state is None or call < found.call:
            if state is not None and state.epoch < total:
                where = f"epoch {state.epoch} of {total}"
                say(f"call {call} of epochs() was left in {where}, and is not continued")
            return total, state
        if state.epoch < total:
            pending = Pending(self._prepared, checkpoints.restorer, state.loaders)
            self.pending, self._place = pending, state
        return min(state.epoch, total), state

    def must_not_be_pending(self) -> None:
        """Check that the script may load a checkpoint by itself.

        Raises:
            RuntimeError: one is loaded, and the script has not reached its place.
        """
        if self.pending is not None:
            sentence = (
                "load_state must not be called where epochs() resumes, because it has loaded the "
                "newest automatic checkpoint already: remove load_state, or call it before epochs()"
            )
            raise RuntimeError(sentence)

    def prepared(self, steps: int) -> None:
        """Load the state of objects that the script has prepared outside of a pass, if it is saved.

        Args:
            steps: the number of completed optimizer steps.
        """
        place = self._place
        if place is None or self.pending is not None or self._checkpoints is None:
            return
        if place.current is None and steps == place.step:
            self._checkpoints.restorer.reload()

    def begin_epoch(self, steps: Steps) -> Passes:
        """Return the passes of the first epoch of a call, which may be the resumed one.

        Args:
            steps: the steps of this process.
        """
        place = self._place
        if self.pending is None or place is None:
            return Passes(steps)
        if place.current is not None:
            return Passes(steps, done=place.passes, resumed=place.current)
        self.reach(None)
        return Passes(steps)

    def end_epoch(self) -> None:
        """Note that an epoch has ended: a place in it cannot be reached any more."""
        pending, self.pending, self._place = self.pending, None, None
        if pending is not None:
            say("the resumed epoch did not read the data loader in whose pass it had stopped")

    def reach(self, loader: Any | None) -> None:
        """Note that the script is where the checkpoint was taken.

        Args:
            loader: the loader whose pass goes on; None at the beginning of an epoch.
        """
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.reach(loader)


class Pending:
    """A loaded checkpoint whose place the script has not reached yet.

    A resumed epoch begins at its top: what the script does there is done again, such as to step a
    scheduler or to evaluate. Therefore the checkpoint is loaded again at its place, if anything has
    changed since it was loaded.
    """

    def __init__(self, prepared: Prepared, restorer: Restorer, loaders: Sequence[Reading]) -> None:
        """Begin when the checkpoint has just been loaded.

        Args:
            prepared: the objects that the script has prepared.
            restorer: has loaded the checkpoint.
            loaders: what each data loader read when it was taken; empty if that is not known.
        """
        self._loaders = loaders
        self._prepared = prepared
        self._reload = restorer.reload
        self._heads = restorer.heads  # before it is loaded again
        self._random = random_states(0)
        # Changes of registered objects are not seen.
        self._marks = None if restorer.has_registered else list(_marks(prepared))

    def touch(self) -> None:
        """Note that a data loader is read before the place is reached."""
        self._marks = None

    def reach(self, loader: Any | None) -> None:
        """Restore the state of the checkpoint; called by all ranks.

        Args:
            loader: the loader whose pass goes on; None at the beginning of an epoch.

        Raises:
            CheckpointError: a data loader has another dataset, or other batches that do not fit.
        """
        is_changed = self._marks is None or self._marks != list(_marks(self._prepared))
        if any(each_object(is_changed)):
            self._reload()
        if loader is None:
            set_random_states(self._random)
        pairs = zip(
            self._prepared.dataloaders, chain(self._loaders, repeat(Reading())), strict=False
        )
        for index, (one, before) in enumerate(pairs):
            if one.is_within_epoch:
                has_same = check(index, before, one)
                head = self._heads.get(index, NOTHING) if has_same else NOTHING
                one.on_resume(self._restore if one is loader else _nothing, head)

    def _restore(self) -> None:
        set_random_states(self._random)


def _nothing() -> None:
    """Leave the random generators as they are: only the outermost loader restores them."""


def _marks(prepared: Prepared) -> Iterator[Any]:
    """Yield what shows whether prepared objects have changed."""
    for model in prepared.models:
        for tensor in (*model.parameters(), *model.buffers()):
            yield id(tensor), tensor._version  # noqa: SLF001  # torch has no public name for it
    for optimizer in prepared.optimizers:
        for group in optimizer.param_groups:
            yield repr({name: value for name, value in group.items() if name != "params"})
        for state in optimizer.state.values():
            yield [one._version for one in state.values() if isinstance(one, torch.Tensor)]  # noqa: SLF001
    for scheduler in prepared.schedulers:
        yield repr(scheduler.state_dict())
    yield len(prepared.dataloaders)
