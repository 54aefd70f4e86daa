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

_OUT_OF_MEMORY = (  # what torch's errors say, by device
    " out of memory.",
    "MPS backend out of memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.",
    "DefaultCPUAllocator: can't allocate memory",
    "FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed",
)


def clear_device_cache(garbage_collection: bool = False) -> None:
    """Give back memory that an accelerator's allocator holds and nobody uses.

    Args:
        garbage_collection: look for unreachable objects first.
    """
    if garbage_collection:
        gc.collect()
    for name in ("cuda", "xpu", "mps", "npu", "mlu", "musa", "sdaa", "neuron"):
        module = getattr(torch, name, None)
        if module is not None and getattr(module, "is_available", bool)():
            module.empty_cache()


def release_memory(*objects: Any) -> list[None]:
    """As many Nones as objects, to be assigned in their place; then the memory is given back."""
    count = len(objects)
    del objects
    clear_device_cache(garbage_collection=True)
    return [None] * count


def should_reduce_batch_size(exception: Exception) -> bool:
    """Whether an error is one of too little memory."""
    if not isinstance(exception, RuntimeError) or len(exception.args) != 1:
        return False
    return any(words in exception.args[0] for words in _OUT_OF_MEMORY)


def find_executable_batch_size(
    function: Callable[..., Any] | None = None,
    starting_batch_size: int = 128,
    reduce_batch_size_fn: Callable[[], int] | None = None,
) -> Any:
    """Call a function with smaller and smaller batch sizes until there is enough memory for it.

    All processes go down together when one of them has to.

    Args:
        function: its first argument is the batch size. Without it this is a decorator.
        starting_batch_size: the first to be tried.
        reduce_batch_size_fn: gives the next one; default: nine tenths.

    Raises:
        RuntimeError: not even the smallest can be done.
        TypeError: the batch size was given by the caller.
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
    """What came of it, or the lack of memory; any other error is the caller's."""
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
