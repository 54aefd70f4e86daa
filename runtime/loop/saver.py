"""What an automatic checkpoint of a boundary contains, and whether it loses nothing."""

from dataclasses import dataclass
from typing import Any

from runtime.data.adapter import NOTHING
from runtime.errors import CheckpointError
from runtime.loop.checkpoints import Checkpoints, Why
from runtime.loop.passes import Passes
from runtime.loop.say import say
from runtime.loop.state import LoopState
from runtime.preparation.prepared import Prepared
from runtime.world.gradient_state import GradientState


class Saver:
    """Takes the automatic checkpoints of a loop; there are none if the environment asks for none.

    `save` and `finish` must be called by all processes, at the same boundary.
    """

    def __init__(
        self, gradient_state: GradientState, prepared: Prepared, checkpoints: Checkpoints | None
    ) -> None:
        """Begin without a checkpoint.

        Args:
            gradient_state: the steps of this process, and the loaders that are iterated.
            prepared: the objects that the script has prepared.
            checkpoints: the automatic checkpoints; None if there are none.
        """
        self._gradient_state, self._prepared = gradient_state, prepared
        self._checkpoints = checkpoints

    def is_clean(self, loader: Any | None, passes: Passes) -> bool:
        """Whether no gradients wait for a step, and all ranks have the same weights and steps.

        Args:
            loader: the outermost data loader, while it is iterated.
            passes: the passes of the current epoch.
        """
        state = self._gradient_state
        return (
            state.sync_gradients
            and not state.apart
            and (loader is None or self._can_resume(loader, passes))
            and not any(one.has_waiting_gradients() for one in self._prepared.optimizers)
        )

    def _can_resume(self, loader: Any, passes: Passes) -> bool:
        """Whether the pass over a loader can be resumed behind the last batch that it has given."""
        return (
            passes.can_resume
            and not self._gradient_state.holds_inner_batch
            and (not passes.ahead or self._can_go_back(loader))
        )

    def _can_go_back(self, loader: Any) -> bool:
        """Whether batches that the script holds can be read again, which only one loader knows."""
        _, *active = self._gradient_state.dataloader_references
        return loader.can_go_back and all(one is loader for one in active)

    def has_unsaved(self, steps: int) -> bool:
        """Whether the newest checkpoint on storage is of another step; no if there are none.

        Args:
            steps: the number of completed optimizer steps.
        """
        return self._checkpoints is not None and self._checkpoints.last_step != steps

    def has_untaken(self, steps: int) -> bool:
        """Whether the newest checkpoint, also in memory, is of another step; no if there are none.

        Args:
            steps: the number of completed optimizer steps.
        """
        return self._checkpoints is not None and self._checkpoints.last_taken != steps

    def save(self, state: LoopState, loader: Any | None, ahead: int, why: Why) -> None:
        """Write a checkpoint of this boundary; the training goes on if it cannot be written.

        Args:
            state: where the loop is.
            loader: the outermost data loader, while it is iterated.
            ahead: the number of its batches that the script holds before it trains on them.
            why: why it is taken.
        """
        if self._checkpoints is None:
            return
        loaders = self._prepared.dataloaders
        current = None if loader is None else loader.origin
        places = [SavedPosition(one.place(ahead if one is current else 0)) for one in loaders]
        heads = {} if ahead else {i: one.ahead() for i, one in enumerate(loaders)}
        read = {i: one for i, one in heads.items() if one is not NOTHING}
        self._checkpoints.save(state, places, read, why)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written; if it has failed, say so, and go on."""
        try:
            if self._checkpoints is not None:
                self._checkpoints.wait()
        except CheckpointError as error:
            say(f"the training goes on, although an automatic checkpoint has failed: {error}")


@dataclass(frozen=True)
class SavedPosition:
    """The position of a data loader, as a checkpoint's object with a state.

    Attributes:
        position: the state of the data loader.
    """

    position: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self.position
