"""The order in which gradients arrive, which a resumed run needs for the same bits.

With three or more processes the sum of gradients depends on how DistributedDataParallel (DDP) lays
out its buckets, and that depends on the order of gradients in its first iteration. A life that
resumes lays them out by the order of the first life, before its first iteration.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.parallel import reducer
from runtime.world.log import get_logger

logger = get_logger(__name__)
FACT = "gradient_orders"  # the entry of a checkpoint's manifest


@dataclass(frozen=True, slots=True)
class Order:
    """An order of gradients.

    Attributes:
        indices: the indices of the parameters with gradients, in the order of their arrival.
        wait: the number of synchronized iterations before the buckets are laid out by it: 1 after
            the first iteration with `static_graph`, otherwise 0.

    Raises:
        ValueError: the indices are not a permutation, or `wait` is not 0 or 1.
    """

    indices: tuple[int, ...]
    wait: int = 0

    def __post_init__(self) -> None:
        """Check the fields, which come from a file."""
        if any(type(one) is not int for one in (*self.indices, self.wait)):
            sentence = "an order of gradients must consist of integers"
            raise ValueError(sentence)
        if sorted(self.indices) != list(range(len(self.indices))):
            sentence = f"an order of {len(self.indices)} gradients must be a permutation"
            raise ValueError(sentence)
        if self.wait not in (0, 1):
            sentence = f"an order of gradients must wait for 0 or 1 iterations, got {self.wait}"
            raise ValueError(sentence)

    @classmethod
    def of(cls, fact: Any) -> Self:
        """Return the order in an entry of a manifest, which is not trusted.

        Raises:
            ValueError: the entry is not one of `fact`.
        """
        match fact:
            case {"indices": [*indices], "wait": wait} if len(fact) == len(fields(cls)):
                return cls(tuple(indices), wait)
        sentence = "an order of gradients must be an object with a list `indices`, and `wait`"
        raise ValueError(sentence)

    def fact(self) -> dict[str, Any]:
        """Return the entry of a manifest."""
        return {"indices": list(self.indices), "wait": self.wait}


class Arrivals:
    """The order of gradients of one DDP: recorded in its first iterations, or loaded.

    Recording costs a call for each parameter in the first iteration, and nothing afterwards.
    """

    def __init__(self, replica: DistributedDataParallel) -> None:
        """Begin to record.

        Args:
            replica: a DDP that has not been trained; hooks are registered with its parameters.
        """
        self._replica = weakref.ref(replica)  # the parameters refer to this object
        self._arrived: dict[int, None] = {}  # in the order of the last arrival
        self._loaded: Order | None = None
        parameters = reducer.parameters_of(replica)
        self._size = len(parameters)
        self._handles: list[Any] = [
            _on_gradient(one, functools.partial(self._arrive, index))
            for index, one in enumerate(parameters)
        ]

    def _arrive(self, index: int, _: torch.Tensor) -> None:
        replica = self._replica()
        if replica is None or reducer.has_laid_out_again(replica):
            self._stop()
        elif replica.require_backward_grad_sync:
            self._arrived.pop(index, None)
            self._arrived[index] = None
            if self._is_complete and not replica.static_graph:
                self._stop()

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def _is_complete(self) -> bool:
        return len(self._arrived) == self._size

    @property
    def order(self) -> Order | None:
        """The order by which the buckets are or will be laid out; None if it is not known yet."""
        replica = self._replica()
        if self._loaded is not None or replica is None or not self._arrived:
            return self._loaded
        if not replica.static_graph:
            return Order(tuple(self._arrived)) if self._is_complete else None
        # A static graph is laid out after two iterations, with unused parameters at the end.
        unused = (index for index in range(self._size) if index not in self._arrived)
        is_due = reducer.has_laid_out_again(replica) or reducer.begun_iterations(replica) > 1
        return Order((*self._arrived, *unused), wait=0 if is_due else 1)

    def follow(self, order: Order) -> str | None:
        """Lay out the buckets by an order of another life. All processes must call this.

        Returns:
            Why this is not possible; None if it is done, or will be done when it is due.
        """
        replica = self._replica()
        if replica is None or order == self.order:
            return None
        if len(order.indices) != self._size:
            return f"it was saved with {len(order.indices)} trained parameters, not {self._size}"
        if problem := reducer.obstacle(replica):
            return problem
        self._stop()
        self._loaded = order
        if order.wait:
            self._handles.append(replica.register_forward_pre_hook(self._before_forward))
        else:
            reducer.lay_out(replica, order.indices)
        return None

    def _before_forward(self, replica: Any, _: Any) -> None:
        """Wait for one synchronized iteration, and lay out the buckets where DDP would do it."""
        loaded = self._loaded
        if loaded is None or not torch.is_grad_enabled() or not replica.require_backward_grad_sync:
            return
        if loaded.wait:
            self._loaded = dataclasses.replace(loaded, wait=0)
            return
        self._stop()
        reducer.lay_out(replica, loaded.indices)


def _on_gradient(parameter: Any, call: Callable[[torch.Tensor], None]) -> Any:
    return parameter.register_post_accumulate_grad_hook(call)


_known: "weakref.WeakKeyDictionary[DistributedDataParallel, Arrivals]"
_known = weakref.WeakKeyDictionary()


def record(model: nn.Module) -> None:
    """Begin to record the order of a model's gradients, if that matters and is possible."""
    replica = reducer.replica_of(model)
    if replica is None or replica in _known or not reducer.lays_out_again(replica):
        return
    if not reducer.missing(replica) and not reducer.has_laid_out_again(replica):
        _known[replica] = Arrivals(replica)


def facts(models: Iterable[nn.Module]) -> dict[str, Any]:
    """Return the entry of a checkpoint's manifest; empty if there is no order to keep."""
    found = [_arrivals_of(model) for model in models]
    orders = [None if one is None else one.order for one in found]
    if not any(orders):
        return {}
    return {FACT: [None if order is None else order.fact() for order in orders]}


def are_kept(models: Iterable[nn.Module]) -> bool:
    """Whether the layout of any of these models can follow an order."""
    return any(_arrivals_of(model) is not None for model in models)


def follow(models: Sequence[nn.Module], found: Mapping[str, Any]) -> None:
    """Lay out the buckets of all models as a checkpoint says. All processes must call this.

    A checkpoint that says nothing about a model leaves its buckets as they are.

    Args:
        models: prepared models.
        found: a manifest, the same on all processes.
    """
    entries = found.get(FACT)
    if entries is None:
        return
    if not isinstance(entries, list):
        _warn(f"its {FACT} must be a list, got {type(entries).__name__}")
        return
    for model, entry in zip(models, entries, strict=False):  # models may have been added
        arrivals = _arrivals_of(model)
        if arrivals is not None and entry is not None:
            _warn(_followed(arrivals, entry))


def _followed(arrivals: Arrivals, entry: Any) -> str | None:
    try:
        return arrivals.follow(Order.of(entry))
    except ValueError as error:
        return str(error)


def _warn(problem: str | None) -> None:
    if problem is not None:
        logger.warning(
            "the order of gradients of this checkpoint cannot be used, so the next step may differ "
            "in its last bits from that of an undisturbed run: %s",
            problem,
        )


def _arrivals_of(model: nn.Module) -> Arrivals | None:
    replica = reducer.replica_of(model)
    return None if replica is None else _known.get(replica)
