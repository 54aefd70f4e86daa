"""Which passes over data loaders an epoch has completed, and which one is under way."""

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from runtime.collectives.nested import leaves
from runtime.world.steps import Steps

Name = tuple[int, int]  # the index of a prepared loader; the number of the pass over it, from 0


@dataclass(slots=True)
class _Pass:
    """A pass over a loader.

    Attributes:
        name: the index of the loader, and the number of the pass; None if it is not prepared.
        steps: the number of completed optimizer steps when it began.
        backwards: the number of backward passes when it began.
        ahead: the number of batches that the script holds before it trains on them.
        first: the tensors of the first batch, if no backward pass followed on it.
    """

    name: Name | None
    steps: int
    backwards: int
    ahead: int = 0
    first: list[weakref.ref[Tensor]] = field(default_factory=list)


class Passes:
    """The passes of one epoch over the outermost data loaders.

    An epoch that is resumed begins at its top. Passes that have trained are not repeated, others,
    such as evaluations, are. The pass in which the checkpoint was taken goes on.
    """

    def __init__(
        self, steps: Steps, *, done: Iterable[Name] = (), resumed: Name | None = None
    ) -> None:
        """Begin an epoch.

        Args:
            steps: the steps of this process.
            done: the training passes that are not repeated.
            resumed: the pass that goes on; None if the epoch begins.
        """
        self._steps = steps
        self._outside = steps.outside
        self._has_unknown = False  # whether a loader that is not prepared was trained on
        self._done = set(done)
        self._omitted = frozenset(self._done)
        self._resumed = resumed
        self._numbers: Counter[int] = Counter()
        self._current: _Pass | None = None

    @property
    def current(self) -> Name | None:
        """The pass that is under way; None if there is none."""
        return None if self._current is None else self._current.name

    @property
    def can_resume(self) -> bool:
        """Whether the current pass can be resumed.

        It cannot if the epoch has trained outside of passes over prepared loaders, which would be
        repeated.
        """
        is_known = self.current is not None and not self._has_unknown
        return is_known and self._steps.outside == self._outside

    @property
    def ahead(self) -> int:
        """The number of batches that the script holds before it trains on them."""
        return 0 if self._current is None else self._current.ahead

    def enter(self, index: int | None) -> bool:
        """Begin a pass; return whether it is to be read.

        Args:
            index: the index of the loader; None if it is not among the prepared ones.
        """
        self.leave()
        name = None
        if index is not None:
            name = index, self._numbers[index]
            self._numbers[index] += 1
        if name in self._omitted:
            return False
        self._current = _Pass(name, self._steps.completed, self._steps.backwards)
        return True

    @property
    def is_resumed(self) -> bool:
        """Whether the current pass is the one that goes on."""
        return self._resumed is not None and self.current == self._resumed

    def leave(self) -> None:
        """Note that the pass has ended, also by a `break`."""
        one, self._current = self._current, None
        if one is None or self._steps.completed == one.steps:
            return
        if one.name is None:
            self._has_unknown = True
        else:
            self._done.add(one.name)

    def boundary(self, batch: Any) -> None:
        """Note that another batch is read, without a step since the last one was given.

        Args:
            batch: the batch that was given last.
        """
        one, steps = self._current, self._steps
        if one is None or (steps.completed, steps.backwards) != (one.steps, one.backwards):
            return
        if not one.ahead:
            one.first = [weakref.ref(x) for x in leaves(batch) if isinstance(x, Tensor)]
        one.ahead += 1
        steps.on_backward(self._backward)

    def _backward(self) -> None:
        """Note the first backward pass behind batches that had none.

        If the first of them is gone, the script has left them out; otherwise it reads ahead.
        """
        one = self._current
        if one is not None and one.first and all(reference() is None for reference in one.first):
            one.ahead = 0

    def done(self) -> tuple[Name, ...]:
        """Return the training passes that are complete."""
        return tuple(sorted(self._done))
