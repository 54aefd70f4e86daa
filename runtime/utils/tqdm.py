"""A progress bar on the first process of each pod or machine."""

import importlib
from typing import Any

from runtime.config.availability import is_present
from runtime.world.state import PartialState

__all__ = ["tqdm"]


def tqdm(*args: Any, main_process_only: bool = True, **kwargs: Any) -> Any:
    """Return tqdm's progress bar, shown on the first process of each pod or machine only.

    Args:
        *args: arguments of `tqdm.auto.tqdm`.
        main_process_only: whether only these processes show a bar; if not, all processes do.
        **kwargs: further arguments of `tqdm.auto.tqdm`.

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
