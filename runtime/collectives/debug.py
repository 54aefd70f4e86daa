"""Debug mode (ACCELERATE_DEBUG_MODE): compare shapes before a collective that could hang."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.collectives.nested import find_device, get_shape
from runtime.collectives.objects import gather_object
from runtime.errors import DistributedOperationException
from runtime.world.state import PartialState

Function = TypeVar("Function", bound=Callable[..., Any])


def verify_operation(function: Function) -> Function:
    """Decorate a collective so that debug mode compares the shapes of all processes first.

    Without this check, a collective with different shapes can hang.

    Args:
        function: the collective; its first argument is the data and is named `tensor`.

    Raises:
        DistributedOperationException: at a call, if shapes differ or a tensor is on another kind of
            device than this process uses.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        state = PartialState()
        if state.debug and state.num_processes > 1:
            name = f"{function.__module__}.{function.__name__}"
            _verify(name, kwargs["tensor"] if "tensor" in kwargs else args[0], state)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]  # the same signature


def _verify(operation: str, data: Any, state: PartialState) -> None:
    device = find_device(data)
    if device is not None and device.type != state.device.type:
        sentence = (
            f"One or more of the tensors passed to {operation} were not on the {state.device.type} "
            f"that this process computes on, but on the {device.type}. Please move them there "
            f"before calling {operation}."
        )
        raise DistributedOperationException(sentence)
    shapes = gather_object([get_shape(data)])
    if any(shape != shapes[0] for shape in shapes):
        listed = "\n  - ".join(f"Process {rank}: {shape}" for rank, shape in enumerate(shapes))
        sentence = (
            "Cannot apply desired operation due to shape mismatches. All shapes across devices "
            f"must be valid.\n\nOperation: `{operation}`\nInput shapes:\n  - {listed}"
        )
        raise DistributedOperationException(sentence)


def chained_operation(function: Function) -> Function:
    """Decorate a function so that shape errors of the collectives it calls name the function."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except DistributedOperationException as error:
            operation = f"{function.__module__}.{function.__name__}"
            sentence = f"Error found while calling `{operation}`. Please see the earlier error."
            raise DistributedOperationException(sentence) from error

    return wrapper  # type: ignore[return-value]  # the same signature
