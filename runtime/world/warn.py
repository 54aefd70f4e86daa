"""Warnings that are given once, on the main process."""

import functools
import warnings

from runtime.world.state import PartialState


@functools.cache
def warn_once(sentence: str) -> None:
    """Warn, unless this was said before or another process says it."""
    if PartialState().is_local_main_process:
        warnings.warn(sentence, stacklevel=3)
