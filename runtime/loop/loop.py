"""The loop over epochs and batches: where it is, and what it does at each boundary."""

import atexit
from collections.abc import Mapping
from typing import Any

import torch

from runtime.collectives.objects import each_object
from runtime.config.arguments import hint_of, whole
from runtime.control.agreement.messages import Action
from runtime.control.beat import Phase
from runtime.loop.changes import tell_schedulers_that_begin_anew
from runtime.loop.checkpoints import Checkpoints, Why
from runtime.loop.comparison import Comparison
from runtime.loop.control import Alone, Control
from runtime.loop.epochs import Epochs
from runtime.loop.outlook import Outlook
from runtime.loop.passes import Passes
from runtime.loop.pulse import Pulse
from runtime.loop.reading import Reading
from runtime.loop.resume import Resume
from runtime.loop.saver import Saver
from runtime.loop.state import LoopState
from runtime.loop.stopping import Shutdown, Stopped
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState
from runtime.world.last_words import report_step

_NESTED = (
    "epochs() must not be nested, but an inner one was called before an outer one was complete or "
    "left; use range() for inner loops"
)
# Python 3.11 takes longer to find these in the class than a boundary should.
_STEP, _EVALUATION = Phase.STEP, Phase.EVALUATION


class Loop:
    """Counts epochs, and saves and stops at the boundaries between batches.

    A boundary is a moment at which the main thread asks for the next batch of the outermost data
    loader, or for the next epoch.

    Attributes:
        comparison: compares the tensors of all ranks; never, unless it is replaced.
    """

    def __init__(
        self,
        gradient_state: GradientState,
        prepared: Prepared,
        checkpoints: Checkpoints | None,
        *,
        rank: int,
        size: int,
        grace_seconds: float,
    ) -> None:
        """Begin before the first epoch.

        Args:
            gradient_state: the steps of this process, and the loaders that are iterated.
            prepared: the objects that the script has prepared.
            checkpoints: the automatic checkpoints; None if there are none.
            rank: the rank of this process; rank 0 decides when a checkpoint is due by time.
            size: the world size.
            grace_seconds: the time between a signal to stop and the kill of this process.
        """
        self._gradient_state = gradient_state
        self._prepared = prepared
        self._control: Control = Alone()
        self._pulse = Pulse()
        self._outlook = Outlook()
        self.comparison = Comparison(None, gradient_state, prepared)
        self._checkpoints = checkpoints
        self._saver = Saver(gradient_state, prepared, checkpoints)
        self._rank, self._size = rank, size
        self._grace_seconds = grace_seconds
        self._calls = 0
        self._current: Epochs | None = None
        self._begun = 0
        self._passes = Passes(gradient_state.steps)
        self._loader: Any = None  # the outermost loader, while it is iterated
        self._batch_size = 0  # samples of all ranks in a batch of that loader; 0: not known yet
        self._resume = Resume(prepared, checkpoints)
        self._is_stopped = False
        safe_step = _nowhere if checkpoints is None else checkpoints.safe_step
        self._shutdown = Shutdown(self._control, safe_step, grace_seconds=grace_seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a loop without automatic checkpoints: a copy must not write the same ones."""
        given = self._gradient_state, self._prepared, self._rank, self._size, self._grace_seconds
        return _without_checkpoints, given

    # ---- What a script reads

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return 0 if self._current is None else self._current.next

    @property
    def steps(self) -> int:
        """The number of completed optimizer steps."""
        return self._gradient_state.steps.completed

    @property
    def has_checkpoints(self) -> bool:
        """Whether automatic checkpoints are written."""
        return self._checkpoints is not None

    @property
    def should_stop(self) -> bool:
        """Whether all ranks have agreed to stop."""
        self._attend(stops=True)
        if self._is_stopped:
            self._shutdown.leave_by_script()
        return self._is_stopped

    def step_done(self) -> None:
        """Note a step of all prepared optimizers that did not go through them."""
        state = self._gradient_state
        if state.copies is not None:
            state.copies.spoil("step_done() has told of a step beside the prepared optimizers")
        state.steps.step(in_pass=state.in_pass)
        for optimizer in self._prepared.optimizers:
            optimizer.note_step()

    def begin_backward(self, loss: torch.Tensor) -> None:
        """Note that a backward pass begins, and its loss, for those who watch the training."""
        self._pulse.losses.note(loss)
        for optimizer in self._prepared.optimizers:
            optimizer.note_backward()

    def note_metrics(self, values: Mapping[str, object]) -> None:
        """Note what the script has logged, for those who watch the training."""
        self._pulse.log(values)

    def _attend(self, *, stops: bool) -> None:
        """Begin to act at boundaries.

        Args:
            stops: whether to listen for requests to stop; without a checkpoint to go on from, a
                process had better end at once.
        """
        before = self._gradient_state.listener
        if before is not self:
            self._gradient_state.listener = self
            self._control = before.join() if isinstance(before, Loop) else self.join()
            self._shutdown.control = self._control
            if self._checkpoints is not None:
                self._checkpoints.on_complete = self._control.checkpointed
            if self._rank == 0:
                self._outlook.tell = self._control.plan
        if stops:
            self._shutdown.listen()

    def join(self) -> Control:
        """Return what connects this process to the others; joins them at the first call."""
        # What serves the progress and the stacks would prolong the start of every script.
        from runtime.control import stacks  # noqa: PLC0415
        from runtime.loop.joining import joined  # noqa: PLC0415

        if isinstance(self._control, Alone):
            self._control = joined(self._rank, self._size, self._pulse.beat)
            stacks.install()
            atexit.register(self._control.close)
        return self._control

    # ---- Epochs

    def epochs(self, total: int) -> Epochs:
        """Return the epochs that are left; see `Accelerator.epochs`."""
        total = whole(total, "epochs()", "the number of epochs", hint_of(total))
        if total < 0:
            sentence = f"the number of epochs must be at least 0, got {total}"
            raise ValueError(sentence)
        self._must_be_only()
        self._attend(stops=self._checkpoints is not None)
        steps = self._gradient_state.steps
        report_step(lambda: steps.completed)
        call, self._calls = self._calls, self._calls + 1
        if self._checkpoints is not None and not call:
            has_registered = self._checkpoints.restorer.has_registered
            tell_schedulers_that_begin_anew(self._prepared, has_registered=has_registered)
        return Epochs(self, call, total, self._first(call, total))

    def _must_be_only(self) -> None:
        """Check that the automatic checkpoints belong to this loop, and that none is iterated.

        Raises:
            RuntimeError: another Accelerator has used them, or a data loader is iterated.
        """
        if self._current is not None and self._current.is_iterated:
            raise RuntimeError(_NESTED)
        if self._checkpoints is None:
            return
        before = self._gradient_state.listener
        if isinstance(before, Loop) and before is not self and before.is_over:
            sentence = (
                "the automatic checkpoints of a process belong to one Accelerator, but epochs() of "
                "another one is complete: use one Accelerator, or unset "
                "ACCELERATEDJOB_CHECKPOINT_DIR"
            )
            raise RuntimeError(sentence)
        if self._gradient_state.in_dataloader:
            sentence = (
                "epochs() must be called before the iteration of a data loader begins, which "
                "otherwise does not go on where the job has stopped"
            )
            raise RuntimeError(sentence)

    @property
    def is_over(self) -> bool:
        """Whether the last call of `epochs` has no epoch left."""
        return self._current is not None and self._current.is_over

    def forget(self) -> None:
        """Begin anew if the script tries again, as `find_executable_batch_size` does.

        If all epochs are done, the script goes on with another call of `epochs`.
        """
        if not self._calls or self.is_over:
            return
        self._saver.finish()
        self._calls, self._begun, self._current = 0, 0, None
        self._resume.forget()
        self._gradient_state.steps.completed = self._pulse.samples = 0

    def _first(self, call: int, total: int) -> int:
        """Return the epoch at which a call of `epochs` begins; load its checkpoint."""
        if not call:
            self._saver.finish()
            self._resume.find()
        first, state = self._resume.first(call, total)
        if state is not None:
            self._gradient_state.steps.completed = state.step
            self._pulse.samples = state.samples
            is_begun_again = self._resume.pending is not None
            self._begun = state.begun - is_begun_again
        return first

    def must_not_resume(self) -> None:
        """Check that the script may load a checkpoint by itself.

        Raises:
            RuntimeError: the loop has loaded one, and the script has not reached its place.
        """
        self._resume.must_not_be_pending()

    def prepared(self) -> None:
        """Note that the script has prepared objects; load their state if they were saved."""
        if self._passes.current is None:
            self._resume.prepared(self.steps)

    def begin(self, epochs: Epochs) -> None:
        """Note that the first epoch of a call begins."""
        self._must_be_newest(epochs)
        self._current = epochs
        self._shutdown.check()
        self._begun += 1
        self._outlook.begin(epochs.total, self.steps)
        self._gradient_state.begin_epoch()
        self._passes = self._resume.begin_epoch(self._gradient_state.steps)
        self._arrive(can_act=False)

    def go_on(self, epochs: Epochs) -> None:
        """Note that an epoch has ended."""
        self._must_be_newest(epochs)
        self._shutdown.check()
        self._begun += 1
        self._outlook.end_epoch(self.steps)
        self._gradient_state.begin_epoch()
        self._passes = Passes(self._gradient_state.steps)
        self._resume.end_epoch()
        self._arrive(can_act=True)
        self._pulse.enter(Phase.USER)
        if epochs.next == epochs.total and self._saver.has_unsaved(self.steps):
            self._save(Why.END)

    def _must_be_newest(self, epochs: Epochs) -> None:
        if self._current is not None and self._current.call > epochs.call:
            raise RuntimeError(_NESTED)

    # ---- Boundaries

    def enter(self, loader: Any) -> bool:
        """Note that a pass over an outermost loader begins; return whether it is to be read."""
        self._loader = None
        self._shutdown.check()
        self._arrive(can_act=False)
        pulse, resume = self._pulse, self._resume
        pulse.enter(Phase.DATA if pulse.phase is not Phase.INIT else Phase.INIT)
        is_read = self._passes.enter(self._index(loader))
        self._loader, self._batch_size = loader, 0
        if resume.pending is None or not is_read:
            return is_read
        if self._passes.is_resumed:
            resume.reach(loader.origin)
        else:
            resume.pending.touch()
            loader.origin.forget_position()
        return True

    def boundary(self, loader: Any, batch: Any) -> None:
        """Note that the outermost loader is asked for the batch after the first or a later one."""
        has_stepped = self._gradient_state.steps.has_stepped
        if has_stepped:
            if not self._batch_size:  # once in a pass, because it is computed
                self._batch_size = loader.total_batch_size
                self._outlook.step(loader, self._gradient_state.num_steps)
            self._pulse.step(self._batch_size)
        else:
            self._passes.boundary(batch)
            self._pulse.enter(_EVALUATION)
        # The end of a pass is no place to stop: the resumed epoch would have an empty pass.
        if self._arrive(can_act=has_stepped and not loader.end_of_dataloader):
            self._pulse.enter(_STEP if has_stepped else _EVALUATION)

    def leave(self) -> None:
        """Note that the pass over the outermost loader has ended."""
        self._loader = None
        self._passes.leave()

    def _arrive(self, *, can_act: bool) -> bool:
        """Save or stop at this boundary if all ranks have agreed to; return whether it took time.

        Args:
            can_act: whether a checkpoint of this boundary loses nothing, as far as the kind of the
                boundary tells.
        """
        control, checkpoints = self._control, self._checkpoints
        steps = self._gradient_state.steps.completed
        control.mark = (steps, self._begun)  # before the test: the control reads it afterwards
        if self._is_stopped and self._current is not None:
            raise Stopped
        if self._rank == 0 and checkpoints is not None and checkpoints.is_time():
            control.wish_to_save()
        is_due = can_act and (
            steps >= self.comparison.next_step
            or (checkpoints is not None and steps >= checkpoints.clock.next_step)
        )
        if is_due or control.is_raised:
            self._act(can_act=can_act)
            return True
        return False

    def _act(self, *, can_act: bool) -> None:
        """Do what is due at this boundary; see `_arrive`."""
        control, checkpoints = self._control, self._checkpoints
        if control.is_raised:
            self._pulse.enter(Phase.AGREEMENT)
            self._obey(control.at_boundary(is_clean=lambda: can_act and self._is_clean()))
        if can_act and checkpoints is not None and self.steps >= checkpoints.clock.next_step:
            self._save_by_step()
        if can_act and self.steps >= self.comparison.next_step:
            self._compare()

    def _is_clean(self) -> bool:
        return self._saver.is_clean(self._loader, self._passes)

    def _index(self, loader: Any) -> int | None:
        """Return the index of a loader, or of the one whose rest it reads, among the prepared."""
        whole = loader.origin
        found = (i for i, one in enumerate(self._prepared.dataloaders) if one is whole)
        return next(found, None)

    # ---- Actions

    def _save_by_step(self) -> None:
        # All ranks are here, because they count the same steps unless they are apart; but a script
        # may hold a batch on one of them only.
        if self._gradient_state.apart or not self._saver.has_unsaved(self.steps):
            return
        if all(each_object(self._is_clean())):
            self._save(Why.STEP)

    def _compare(self) -> None:
        self._pulse.enter(Phase.AGREEMENT)
        self.comparison.compare(self.steps, self._loader, self._control.digested)

    def _obey(self, action: Action | None) -> None:
        if action is None:
            return
        if action is Action.SAVE:
            if self._saver.has_untaken(self.steps):
                self._save(Why.TIME)
            self._control.saved()
            return
        self._is_stopped = True
        self._shutdown.begin()
        if self._current is None:
            return  # the script reads `should_stop`
        if action is Action.STOP:
            self._save_and_wait()
        self._shutdown.leave(self.steps)

    def _save(self, why: Why) -> None:
        self._pulse.enter(Phase.CHECKPOINT)
        self._saver.save(self._state(), self._loader, self._passes.ahead, why)

    def _save_and_wait(self) -> None:
        self._saver.finish()  # if it has failed, its steps are unsaved
        if self._saver.has_unsaved(self.steps):
            self._save(Why.END)
            self._saver.finish()

    def _state(self) -> LoopState:
        return LoopState(
            call=0 if self._current is None else self._current.call,
            epoch=self.epoch,
            epochs=0 if self._current is None else self._current.total,
            begun=self._begun,
            step=self.steps,
            samples=self._pulse.samples,
            passes=self._passes.done(),
            current=self._passes.current,
            loaders=tuple(Reading.by(one) for one in self._prepared.dataloaders),
        )


def _nowhere() -> None:
    """Return the step from which a job without checkpoints can go on."""


def _without_checkpoints(
    gradient_state: GradientState,
    prepared: Prepared,
    rank: int,
    size: int,
    grace_seconds: float,
) -> Loop:
    """Return a loop without automatic checkpoints."""
    return Loop(gradient_state, prepared, None, rank=rank, size=size, grace_seconds=grace_seconds)
