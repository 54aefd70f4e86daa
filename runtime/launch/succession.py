"""What a launcher knows of another life: what it asks for, and what it was ordered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.control.lives import Order
from runtime.control.messages import MAX_SENTENCE, MAX_TEXT, Begin, Clear, Fell, GiveUp
from runtime.launch.endings import STOPPED, Ending

_CANNOT_RUN = (126, 127)  # as in shells: the command cannot be executed, or is not found


@dataclass(slots=True)
class Succession:
    """What follows a life.

    Attributes:
        number: the life, from 0.
        is_asked_for: whether the coordinator was asked for another life.
        is_ending: whether all processes of this life are to be ended, because another one follows.
        is_cleared: whether the coordinator was told that they have ended.
        refusal: why no other life follows; None while one may.
        then: the order to begin the next life, once it has come.
    """

    number: int = 0
    is_asked_for: bool = False
    is_ending: bool = False
    is_cleared: bool = False
    refusal: str | None = None
    then: Begin | None = None

    @property
    def is_open(self) -> bool:
        """Whether an order is still awaited."""
        return (self.is_asked_for or self.is_ending) and self.refusal is None and self.then is None

    def heed(self, order: Order) -> None:
        """Take an order; one of another life is ignored."""
        if isinstance(order, Begin):
            if order.number == self.number + 1:
                self.then = order
        elif order.number == self.number:
            self.is_ending |= isinstance(order, Clear)
            self.refusal = order.why if isinstance(order, GiveUp) else self.refusal


def failure(
    number: int,
    ending: Ending,
    words: Mapping[str, Any] | None,
    *,
    lacked_memory: bool,
    fail_codes: Sequence[int],
) -> Fell:
    """Return what the coordinator is told of a failure.

    Args:
        number: the life.
        ending: how the process has ended.
        words: what it has written to the termination message; empty if nothing; None outside of a
            job, where it cannot tell whether it has stopped with a checkpoint.
        lacked_memory: whether the kernel has killed a process at the memory limit.
        fail_codes: the exit codes after which the processes must not be started again in place.
    """
    rank = int(ending.rank) if ending.rank.isdecimal() else 0
    found = words or {}
    told = found if found.get("rank") in (rank, None) else {}
    stopped = found.get("stopped")
    step = stopped.get("step") if isinstance(stopped, dict) else told.get("step")
    refused = _refusal(ending.code, lacked_memory=lacked_memory, fail_codes=fail_codes)
    if not refused and ending.status == STOPPED and words is not None and stopped is None:
        refused = "the script has stopped without a checkpoint"
    return Fell(
        number=number,
        rank=rank,
        status=ending.status,
        exception=str(told.get("exception", ""))[:MAX_TEXT],
        message=str(told.get("message", ""))[:MAX_SENTENCE],
        at_step=step if type(step) is int and step >= 0 else None,
        why_not=refused,
    )


def _refusal(code: int, *, lacked_memory: bool, fail_codes: Sequence[int]) -> str:
    """Return why the pods must not begin another life; empty if they may."""
    if lacked_memory:
        return "the kernel has killed a process at the memory limit"
    if code in fail_codes:
        return f"a rule of spec.failurePolicy is about exit code {code}"
    return f"exit code {code}: the program cannot be run" if code in _CANNOT_RUN else ""
