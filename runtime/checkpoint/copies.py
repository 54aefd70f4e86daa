"""The copies of a snapshot that a device may still be making."""

import threading
from collections.abc import Iterable, Sequence

import torch

from runtime.checkpoint.lanes import Mark
from runtime.errors import CheckpointError

_CHANGED = (
    "between the boundary at which it is copied and the next step of a prepared optimizer, the "
    "parameters and the state of optimizers must not change, but {what}. From now on they are "
    "copied before the training goes on, which takes longer"
)


class Copies:
    """The copies of a snapshot that a device may still be making.

    What is copied must not change before `hold`: a change of a tensor that torch counts is found,
    and `wait` raises an error then. Changes through `Tensor.data` are not counted.
    """

    def __init__(self, marks: Sequence[Mark] = (), copied: Iterable[torch.Tensor] = ()) -> None:
        """Begin behind the copies that the device was given.

        Args:
            marks: the ends of the copies, one per device.
            copied: the tensors that are copied beside what the device does next. Their memory is
                kept until the copies are ordered, so that it is not used for others.
        """
        self._marks = marks
        # The storages are kept: a script may give a parameter or a state other ones.
        self._copied = [(one, one._version, one.untyped_storage()) for one in copied]  # noqa: SLF001  # torch's counter of changes
        self._lock = threading.Lock()
        self._problem: str | None = None

    def __reduce__(self) -> tuple[type["Copies"], tuple[()]]:
        """Pickle without copies."""
        return Copies, ()

    @property
    def are_sound(self) -> bool:
        """Whether nothing is known to have changed too early."""
        return self._problem is None

    def hold(self) -> None:
        """Let all that the devices are given from now on begin after the copies; does not wait."""
        with self._lock:
            self._look()
            for mark in self._marks:
                mark.hold()

    def spoil(self, what: str) -> None:
        """Note that the training may have changed before `hold`; nothing if it has been called.

        Args:
            what: what has happened, as the end of a sentence.
        """
        with self._lock:
            if self._copied:
                self._problem = what

    def wait(self) -> None:
        """Wait until the copies are complete; may be called by any thread.

        Raises:
            CheckpointError: the state changed while it was copied.
        """
        self.settle()
        with self._lock:
            self._look()
        if self._problem is not None:
            raise CheckpointError(_CHANGED.format(what=self._problem))

    def settle(self) -> None:
        """Wait until the copies are complete, whatever they have copied."""
        for mark in self._marks:
            mark.wait()

    def _look(self) -> None:
        """Look once whether a tensor has changed; later changes come after the copies."""
        copied, self._copied = self._copied, []
        for one, version, _ in copied:
            if one._version != version:  # noqa: SLF001
                self._problem = f"a tensor of shape {list(one.shape)} has changed"
                return
