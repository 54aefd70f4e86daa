"""Warnings that are given once, on the first process of each pod or machine."""

import functools
import warnings

from runtime.world.state import PartialState


@functools.cache
def warn_once(sentence: str) -> None:
    """Warn on the first process of each pod or machine, once for each sentence."""
    if PartialState().is_local_main_process:
        warnings.warn(sentence, stacklevel=3)
