"""A progress bar on one process of each machine."""

import importlib
from typing import Any

from runtime.config.availability import is_present
from runtime.world.state import PartialState

__all__ = ["tqdm"]


def tqdm(*args: Any, main_process_only: bool = True, **kwargs: Any) -> Any:
    """Tqdm's bar, silent on all but the first process of each machine.

    Args:
        *args: for tqdm.
        main_process_only: False shows one for each process.
        **kwargs: for tqdm.

    Raises:
        ImportError: tqdm is not installed.
        ValueError: the first argument is a bool, as it was in old versions of Accelerate.
    """
    if not is_present("tqdm"):
        sentence = "a progress bar needs the package tqdm: pip install tqdm"
        raise ImportError(sentence)
    if args and isinstance(args[0], bool):
        sentence = (
            "Passing `True` or `False` as the first argument to `tqdm` is unsupported. Please use "
            "the `main_process_only` keyword argument instead."
        )
        raise ValueError(sentence)
    is_hidden = main_process_only and PartialState().local_process_index != 0
    disable = kwargs.pop("disable", False) or is_hidden
    return importlib.import_module("tqdm.auto").tqdm(*args, **kwargs, disable=disable)
