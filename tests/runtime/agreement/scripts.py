"""What a rank executes, written down as a list of boundaries and collectives."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from runtime.control.place import Place


class Boundary(NamedTuple):
    """The main thread in the `next()` of a loader, or of `epochs()`."""

    place: Place
    number: int  # of the pass, in its epoch
    batch: int  # that comes next; -1: of `epochs()`
    is_behind_step: bool  # of this loader, or `epochs()`
    is_accumulating: bool = False  # gradients that no optimizer has stepped on
    is_evaluation: bool = False
    is_joined: bool = False  # within `join_uneven_inputs`
    is_pass_end: bool = False  # of a training pass: StopIteration comes next
    ahead: int = 0  # batches that were given and not trained on

    def __str__(self) -> str:
        kind = "evaluation" if self.is_evaluation else "epochs" if self.batch < 0 else "training"
        return f"{kind} {self.place.epochs}.{self.number}.{self.batch} (step {self.place.steps})"


class Collective(NamedTuple):
    """Needs all ranks; a rank that waits at the end of a join takes part in every one."""

    key: Hashable
    is_join: bool = False

    def __str__(self) -> str:
        return f"collective {self.key}"


Op = Boundary | Collective
Ops = tuple[Op, ...]


@dataclass
class Script:
    """What one rank executes, written down as the script runs, without any stop."""

    ops: list[Op] = field(default_factory=list)
    epoch: int = 0
    passes: int = 0
    steps: int = 0
    window: int = 0  # batches in this accumulation

    def train(
        self, batches: int, *, window: int = 1, evaluate_after: int = -1, leave_after: int = -1
    ) -> "Script":
        """A pass with a step in each window of batches; it may end by a break."""
        number, stepped = self._begin(), False
        for batch in range(batches):
            self._boundary(number, batch, stepped)
            stepped = self._batch(batch == batches - 1, window)
            if batch == evaluate_after:
                self.evaluate(2, gathers="each")
            if batch == leave_after:
                return self
        self._boundary(number, batches, stepped, is_pass_end=True)
        return self

    def train_ahead(self, batches: int, ahead: int) -> "Script":
        """A pass whose script is given some batches before it trains on the first."""
        number, stepped = self._begin(), False
        for given in range(batches + ahead):
            if given <= batches:
                trained = max(0, given - ahead)
                is_end = given == batches
                self._boundary(number, given, stepped, is_pass_end=is_end, ahead=given - trained)
                stepped = False
            if given >= ahead:
                stepped = self._batch(is_last=False, window=1)
        return self

    def train_joined(self, batches: int, most: int) -> "Script":
        """A pass in `join_uneven_inputs`; at its end all count the steps of the longest."""
        number, stepped = self._begin(), False
        for batch in range(batches):
            self._boundary(number, batch, stepped, is_joined=True)
            self.ops.append(Collective(("step", self.epoch, number, batch)))
            self.steps, stepped = self.steps + 1, True
        self._boundary(number, batches, stepped, is_joined=True, is_pass_end=True)
        self.ops.append(Collective(("join", self.epoch, number), is_join=True))
        self.steps += most - batches
        return self

    def evaluate(self, batches: int, *, gathers: Literal["each", "end", ""] = "") -> "Script":
        """A pass without steps; it gathers after each batch, at its end, or never."""
        number = self._begin()
        for batch in range(batches + 1):
            self._boundary(number, batch, is_behind_step=False, is_evaluation=True)
            if gathers == "each" and batch < batches:
                self.ops.append(Collective(("gather", self.steps, self.epoch, batch)))
        if gathers == "end":
            self.ops.append(Collective(("gather", self.steps, self.epoch, "end")))
        return self

    def barrier(self, name: str) -> "Script":
        """`wait_for_everyone`."""
        self.ops.append(Collective(("barrier", name)))
        return self

    def next_epoch(self) -> "Script":
        """`epochs()` begins another epoch."""
        self.epoch, self.passes = self.epoch + 1, 0
        self._boundary(0, -1, is_behind_step=True)
        return self

    def _begin(self) -> int:
        self.passes += 1
        return self.passes - 1

    def _batch(self, is_last: bool, window: int) -> bool:
        """Train on a batch; whether a step was made."""
        self.window += 1
        if self.window < window and not is_last:
            return False
        self.ops.append(Collective(("step", self.steps)))
        self.steps, self.window = self.steps + 1, 0
        return True

    def _boundary(
        self, number: int, batch: int, is_behind_step: bool, ahead: int = 0, **facts: bool
    ) -> None:
        place, accumulates = Place(self.steps, self.epoch), self.window > 0
        at = Boundary(place, number, batch, is_behind_step, accumulates, ahead=ahead, **facts)
        self.ops.append(at)


def scripts(size: int, write: Callable[[int], Script]) -> tuple[Ops, ...]:
    """The operations of each rank; the script may depend on the rank."""
    return tuple(tuple(write(rank).ops) for rank in range(size))
