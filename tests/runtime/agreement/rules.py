"""What the exploration drives: the machines of the product, and what their callers do with them.

Each field is a rule. A test takes a cure out of the protocol by replacing some.
"""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.control.agreement import coordinator, member
from runtime.control.agreement.member import Order
from runtime.control.place import Place
from tests.runtime.agreement.scripts import Boundary


def place(at: Boundary) -> Place:
    """The place of a boundary."""
    return at.place


def is_clean(at: Boundary) -> bool:
    """Whether a checkpoint at a boundary loses nothing, and repeats nothing."""
    is_within = at.is_accumulating or at.is_evaluation or at.is_joined or at.is_pass_end
    return at.is_behind_step and not is_within


def depth(at: Boundary) -> int:
    """The batches that are taken off the place that is saved."""
    return at.ahead


def choices(order: Order, is_short: bool) -> tuple[Order, ...]:
    """What a rank may do that was told to do something; it has no choice."""
    del is_short
    return (order,)


@dataclass(frozen=True)
class Rules:
    """The protocol, a rule a field."""

    # The machines.
    connect: Callable[..., member.Step] = member.connect
    disconnect: Callable[..., member.Step] = member.disconnect
    want: Callable[..., member.Step] = member.want
    hear: Callable[..., member.Step] = member.hear
    answer: Callable[..., member.Step] = member.answer
    expire: Callable[..., member.Step] = member.expire
    at_boundary: Callable[..., tuple[member.Member, member.Said, Order]] = member.at_boundary
    saved: Callable[..., member.Step] = member.saved
    end: Callable[..., member.Step] = member.end
    chief_connect: Callable[..., coordinator.Step] = coordinator.connect
    chief_disconnect: Callable[..., coordinator.Step] = coordinator.disconnect
    chief_ask: Callable[..., coordinator.Step] = coordinator.ask
    chief_expire: Callable[..., coordinator.Step] = coordinator.expire
    chief_receive: Callable[..., coordinator.Step] = coordinator.receive
    # Their callers.
    writes_first: bool = True  # the main thread writes its place, then looks at its state
    stays: bool = True  # the coordinator's host outlives its own rank
    place: Callable[[Boundary], Place] = place
    is_clean: Callable[[Boundary], bool] = is_clean
    depth: Callable[[Boundary], int] = depth
    choices: Callable[[Order, bool], tuple[Order, ...]] = choices


RULES = Rules()
