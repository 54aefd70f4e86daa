"""Counts optimizer steps, as all ranks count them."""

import weakref
from collections.abc import Callable
from typing import Any


class Steps:
    """The optimizer steps of this process.

    A step is one batch of training: several optimizers that step between two batches, or one that
    steps repeatedly, count once. Outside of passes over prepared data loaders each step counts.

    Attributes:
        completed: the number of completed steps, >= 0.
        backwards: the number of calls of `Accelerator.backward`, >= 0.
        outside: the number of these steps outside of passes over data loaders.
        has_stepped: whether a step was completed since the outermost data loader was asked for a
            batch.
        backwards_before: `backwards` when the outermost data loader was last asked for a batch.
        asked: the inner data loaders that were asked for a batch since the last step, by their ids.
    """

    __slots__ = (
        *("_on_backward", "asked", "backwards", "backwards_before"),
        *("completed", "has_stepped", "outside"),
    )

    def __init__(self) -> None:
        """Begin with no step."""
        self.completed = 0
        self.backwards = 0
        self.outside = 0
        self.backwards_before = 0
        self.asked: dict[int, weakref.ref[Any]] = {}
        self.has_stepped = False
        self._on_backward: Callable[[], None] | None = None

    def boundary(self) -> None:
        """Note that the outermost data loader is asked for a batch."""
        self.backwards_before = self.backwards
        self.has_stepped = False

    def backward(self) -> None:
        """Note a backward pass."""
        self.backwards += 1
        if self._on_backward is not None:
            call, self._on_backward = self._on_backward, None
            call()

    def on_backward(self, call: Callable[[], None]) -> None:
        """Call a function once, at the next backward pass."""
        self._on_backward = call

    def step(self, *, in_pass: bool) -> None:
        """Note that an optimizer has stepped, or skipped a step because of an overflow.

        Args:
            in_pass: whether an outermost data loader is being iterated.
        """
        if self.asked:
            self.asked.clear()
        if not self.has_stepped or not in_pass:
            self.completed += 1
            self.outside += not in_pass
            self.has_stepped = True


class Gradients:
    """Whether an optimizer has gradients that wait for its next step.

    Gradients wait if something was added to them since the step before. A GAN's generator does so
    with those of the discriminator, which clears them before it uses them: these do not wait. They
    are recognized by what the script has done for its last step: it cleared such gradients first.

    A step notes one gradient only; `read` notes the others before a backward pass changes them.
    Most scripts clear them before, so that their steps do not take the time to look at all.
    """

    __slots__ = ("_cleared_at", "_first", "_used", "_version")

    def __init__(self) -> None:
        """Begin with an optimizer that has not stepped."""
        self._used: list[tuple[int, int]] | None = []  # the versions of those that were used
        self._first: weakref.ref[Any] | None = None  # one of these gradients
        self._version = 0  # its version at the step
        self._cleared_at = -2  # completed steps when it was last cleared unused

    def step(self, gradient: Any) -> None:
        """Note that the optimizer has stepped.

        Args:
            gradient: the tensor of a gradient that it has used; None if there is none.
        """
        self._used, self._first = [], None
        if gradient is not None:
            self._used, self._first = None, weakref.ref(gradient)
            self._version = gradient._version  # noqa: SLF001  # torch's counter of changes

    def read(self, gradients: Callable[[], list[Any]]) -> None:
        """Note the other gradients of the last step, if they are neither known nor cleared.

        Args:
            gradients: returns the tensors of some gradients, always of the same parameters.
        """
        if self._used is None:
            found = gradients()
            self._used = _versions(found) if self._is_untouched() else []

    def clear(self, gradients: Callable[[], list[Any]], steps: Steps) -> None:
        """Note that the optimizer's gradients are cleared.

        Args:
            gradients: returns the tensors of some gradients, always of the same parameters.
            steps: the steps of this process.
        """
        is_first = steps.backwards == steps.backwards_before
        if is_first and not self._is_untouched() and self._are_new(gradients()):
            self._cleared_at = steps.completed
        self._used = []

    def may_wait(self, gradients: Callable[[], list[Any]], steps: Steps) -> bool:
        """Whether gradients that exist now, at a boundary, may wait for the optimizer's next step.

        Must be called before `steps.boundary`.

        Args:
            gradients: returns the tensors of some gradients, always of the same parameters.
            steps: the steps of this process.
        """
        self.read(gradients)
        return self._are_new(gradients()) and self._cleared_at != steps.completed - 1

    def _are_new(self, gradients: list[Any]) -> bool:
        """Whether gradients were made or changed since the last step."""
        is_kept = self._first is not None and self._first() is not None
        return bool(gradients) and not (is_kept and _versions(gradients) == self._used)

    def _is_untouched(self) -> bool:
        """Whether the gradient that the step has noted is as it was, as far as nothing was read."""
        one = self._first() if self._used is None and self._first is not None else None
        return one is not None and one._version == self._version  # noqa: SLF001


def _versions(gradients: list[Any]) -> list[tuple[int, int]]:
    return [(id(one), one._version) for one in gradients]  # noqa: SLF001  # torch's counter of changes
