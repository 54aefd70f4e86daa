"""Collectives on Python objects, which are sent as pickles."""

from typing import Any

from torch import distributed

from runtime.world.roll_call import Collective
from runtime.world.state import PartialState


def gather_object(object: Any) -> Any:  # noqa: A002  # accelerate's name
    """Concatenate the lists of objects of all processes, in order of rank."""
    if PartialState().num_processes == 1:
        return object
    return [item for items in each_object(object) for item in items]


def each_object(one: Any) -> list[Any]:
    """Return the objects of all processes, in order of rank."""
    received: list[Any] = [None] * PartialState().num_processes
    if len(received) == 1:
        return [one]
    with Collective("gather_object"):
        distributed.all_gather_object(received, one)
    return received


def broadcast_object_list(object_list: list[Any], from_process: int = 0) -> list[Any]:
    """Replace the objects in a list by those of one process, in place, and return the list."""
    if PartialState().num_processes > 1:
        with Collective("broadcast_object_list"):
            distributed.broadcast_object_list(object_list, src=from_process)
    return object_list
