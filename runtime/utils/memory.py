"""Freeing memory, and retrying with smaller batches after out-of-memory errors."""

import functools
import gc
import inspect
from collections.abc import Callable
from typing import Any

import torch

from runtime.collectives.objects import each_object

__all__ = [
    "clear_device_cache",
    "find_executable_batch_size",
    "release_memory",
    "should_reduce_batch_size",
]

_OUT_OF_MEMORY = (  # parts of torch's error messages
    " out of memory.",
    "MPS backend out of memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.",
    "DefaultCPUAllocator: can't allocate memory",
    "FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed",
)


def clear_device_cache(garbage_collection: bool = False) -> None:
    """Release unused memory that torch's allocators have cached on accelerators.

    Args:
        garbage_collection: whether to run Python's garbage collector first.
    """
    if garbage_collection:
        gc.collect()
    for name in ("cuda", "xpu", "mps", "npu", "mlu", "musa", "sdaa", "neuron"):
        module = getattr(torch, name, None)
        if module is not None and getattr(module, "is_available", bool)():
            module.empty_cache()


def release_memory(*objects: Any) -> list[None]:
    """Release unused memory, and return as many Nones as there are objects.

    The objects themselves are freed when the script assigns the result to its last references, as
    in `model, optimizer = release_memory(model, optimizer)`.

    Args:
        *objects: the objects.

    Returns:
        One None for each object.
    """
    count = len(objects)
    del objects
    clear_device_cache(garbage_collection=True)
    return [None] * count


def should_reduce_batch_size(exception: Exception) -> bool:
    """Whether an error is an out-of-memory error.

    Args:
        exception: the error.
    """
    if not isinstance(exception, RuntimeError) or len(exception.args) != 1:
        return False
    return any(words in exception.args[0] for words in _OUT_OF_MEMORY)


def find_executable_batch_size(
    function: Callable[..., Any] | None = None,
    starting_batch_size: int = 128,
    reduce_batch_size_fn: Callable[[], int] | None = None,
) -> Any:
    """Call a function with decreasing batch sizes until it does not run out of memory.

    If one process runs out of memory, all processes continue with the next batch size.

    Args:
        function: the function, whose first argument is the batch size. Without it, this returns a
            decorator.
        starting_batch_size: the first batch size, >= 1.
        reduce_batch_size_fn: returns the next batch size; by default 0.9 times the last, rounded
            down.

    Raises:
        RuntimeError: the batch size has reached zero.
        TypeError: the caller has passed the batch size.
    """
    if function is None:
        return functools.partial(
            find_executable_batch_size,
            starting_batch_size=starting_batch_size,
            reduce_batch_size_fn=reduce_batch_size_fn,
        )
    batch_size = starting_batch_size

    def smaller() -> int:
        return int(batch_size * 0.9) if reduce_batch_size_fn is None else reduce_batch_size_fn()

    @functools.wraps(function)
    def attempt(*args: Any, **kwargs: Any) -> Any:
        nonlocal batch_size
        clear_device_cache(garbage_collection=True)
        _check_arguments(function, args)
        while batch_size > 0:
            result, error = _tried(function, batch_size, args, kwargs)
            if not any(each_object(error is not None)):
                return result
            del result, error
            clear_device_cache(garbage_collection=True)
            batch_size = smaller()
        sentence = "No executable batch size found, reached zero."
        raise RuntimeError(sentence)

    return attempt


def _tried(
    function: Callable[..., Any], batch_size: int, args: Any, kwargs: Any
) -> tuple[Any, Exception | None]:
    """Return the result and None, or None and the out-of-memory error; other errors are raised."""
    try:
        return function(batch_size, *args, **kwargs), None
    except Exception as error:
        if should_reduce_batch_size(error):
            return None, error.with_traceback(None)
        raise


def _check_arguments(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    names = list(inspect.signature(function).parameters)
    if len(names) >= len(args) + 1:
        return
    given = ", ".join(f"{n}={value}" for n, value in zip(names[1:], args[1:], strict=False))
    sentence = (
        f"Batch size was passed into `{function.__name__}` as the first argument when called. "
        f"Remove this as the decorator already does so: `{function.__name__}({given})`"
    )
    raise TypeError(sentence)
