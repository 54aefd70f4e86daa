"""Collectives on Python objects, which are sent as pickles."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from runtime.world.roll_call import Collective
from runtime.world.state import PartialState

Result = TypeVar("Result")


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


def on_main(run: Callable[[], Result]) -> Result | None:
    """Run a function on rank 0. All processes must call this, and fail if the function does.

    Returns:
        The result on rank 0, None on the others.

    Raises:
        Exception: the error of the function, on rank 0.
        RuntimeError: the function has failed, on the others.
    """
    result, failure = None, None
    if PartialState().is_main_process:
        try:
            result = run()
        except Exception as error:  # noqa: BLE001  # it is raised below
            failure = error
    said = None if failure is None else f"{type(failure).__name__}: {failure}"
    (said,) = broadcast_object_list([said])
    if failure is not None:
        raise failure
    if said is not None:
        sentence = f"rank 0 has failed, and this rank needs its result: {said}"
        raise RuntimeError(sentence)
    return result
