"""The objects that an Accelerator has prepared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from runtime.data.dispatch.loader import DataLoaderDispatcher
from runtime.data.loader import DataLoaderShard
from runtime.optim.optimizer import AcceleratedOptimizer
from runtime.optim.scheduler import AcceleratedScheduler

Object = TypeVar("Object")
MARK = "_is_accelerate_prepared"  # the attribute that Accelerate sets on prepared objects


@dataclass(slots=True)
class Prepared:
    """The prepared objects of each kind, in the order in which they were prepared.

    Attributes:
        models: the models, in their containers.
        optimizers: the optimizers.
        schedulers: the learning rate schedulers.
        dataloaders: the data loaders.
    """

    models: list[nn.Module] = field(default_factory=list)
    optimizers: list[AcceleratedOptimizer] = field(default_factory=list)
    schedulers: list[AcceleratedScheduler] = field(default_factory=list)
    dataloaders: list[DataLoaderShard | DataLoaderDispatcher] = field(default_factory=list)

    def __str__(self) -> str:
        """Return how many objects of each kind there are."""
        kinds: dict[str, list[Any]] = {
            "model": self.models,
            "optimizer": self.optimizers,
            "scheduler": self.schedulers,
            "data loader": self.dataloaders,
        }
        found = [
            f"{len(objects)} {kind}{'s' * (len(objects) > 1)}"
            for kind, objects in kinds.items()
            if objects
        ]
        return ", ".join(found) or "nothing"

    def parameters(self) -> Iterator[torch.Tensor]:
        """Yield the parameters of all models and optimizers; many of them twice."""
        for model in self.models:
            yield from model.parameters()
        for optimizer in self.optimizers:
            yield from optimizer.parameters()

    def stepped(self) -> list[torch.Tensor]:
        """Return the tensors that only steps of the optimizers change: not what a forward does."""
        states = (values for one in self.optimizers for values in one.state.values())
        moments = [one for state in states for one in _tensors(state)]
        return [*self.parameters(), *moments]

    def optimizers_of(self, parameters: Iterable[torch.Tensor]) -> list[AcceleratedOptimizer]:
        """Return the optimizers that train any of these parameters."""
        chosen = set(map(id, parameters))
        return [one for one in self.optimizers if not chosen.isdisjoint(map(id, one.parameters()))]

    def clear(self) -> None:
        """Remove all objects."""
        for objects in (self.models, self.optimizers, self.schedulers, self.dataloaders):
            objects.clear()


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    values = state.values() if isinstance(state, dict) else ()
    return (one for one in values if isinstance(one, torch.Tensor))


def is_prepared(prepared: Any) -> bool:
    """Whether an Accelerator has prepared this object."""
    return bool(getattr(prepared, MARK, False))


def added(prepared: Object, objects: list[Any]) -> Object:
    """Mark an object as prepared, and append it to the objects of its kind; returns it."""
    setattr(prepared, MARK, True)
    objects.append(prepared)
    return prepared
